// Arrays one after the other in another one, up to 64 by a launch: their places come with it, so nothing is copied from
// the host.

struct Parts {
    const void *from[64];
    long long start[65];  // of each part in the whole, and where the last one ends; so too of those that are not there
};

template <class Word> __device__ void join(const Parts &parts, Word *whole) {
    const long long end = parts.start[64], step = (long long)gridDim.x * blockDim.x;
    for (long long i = parts.start[0] + (long long)blockIdx.x * blockDim.x + threadIdx.x; i < end; i += step) {
        int k = 0;  // the last part that begins there or before
        for (int half = 32; half; half >>= 1) k += parts.start[k + half] <= i ? half : 0;
        whole[i] = ((const Word *)parts.from[k])[i - parts.start[k]];
    }
}

#define KERNEL(bytes, Word) \
    extern "C" __global__ void join_##bytes(const __grid_constant__ Parts parts, void *whole) { \
        join(parts, (Word *)whole); \
    }

KERNEL(1, unsigned char)
KERNEL(2, unsigned short)
KERNEL(4, unsigned int)
KERNEL(8, unsigned long long)
