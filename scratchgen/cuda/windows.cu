// Windows of framed images, side by side in memory: what scratchgen/convolution.py says by `windows` of `framed`.
//
// A line of an image is a run of numbers, and so is what a window sees of it: kw pixels.  Numbers are moved as words of
// 2, 4, 8 or 16 bytes, and all lengths are counted in words.  Some threads have a window together, and write its words
// one after the other; where a window reaches beyond the image, zeros.

struct alignas(16) word_16 {
    unsigned long long low, high;
};
typedef unsigned long long word_8;
typedef unsigned int word_4;
typedef unsigned short word_2;

template <class Word>
__device__ void windows(const Word *x, Word *y, unsigned n, unsigned rows, unsigned columns, unsigned kh, unsigned run,
                        long long height, long long line, int stride, int top, long long left, long long across) {
    const unsigned w = blockIdx.x * blockDim.y + threadIdx.y;
    if (w >= n) return;
    const unsigned j = w % columns, i = w / columns % rows, b = w / columns / rows;
    const long long first = (long long)i * stride - top, begin = j * across - left;
    x += b * height * line;
    y += (long long)w * kh * run;
    for (unsigned t = threadIdx.x; t < kh * run; t += blockDim.x) {
        const long long row = first + t / run, place = begin + t % run;
        const bool inside = row >= 0 && row < height && place >= 0 && place < line;
        y[t] = inside ? x[row * line + place] : Word{};
    }
}

#define KERNEL(bytes) \
    extern "C" __global__ void windows_##bytes(const void *x, void *y, unsigned n, unsigned rows, unsigned columns, \
                                               unsigned kh, unsigned run, long long height, long long line, \
                                               int stride, int top, long long left, long long across) { \
        windows((const word_##bytes *)x, (word_##bytes *)y, n, rows, columns, kh, run, height, line, stride, top, \
                left, across); \
    }

KERNEL(2)
KERNEL(4)
KERNEL(8)
KERNEL(16)
