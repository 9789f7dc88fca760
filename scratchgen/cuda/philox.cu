// Counter-based noise: what scratchgen/philox.py says, four numbers to a thread.
//
// A stream is four words: blocks drawn so far, the key (two), and the thread blocks that are done with the draw now
// under way.  Every thread reads the count when it begins.  A thread block is done when all of its threads are; the one
// that finds all others done moves the count on, so no thread reads it too late, and one launch is one draw.

typedef unsigned long long word;

// Salmon et al. (2011), section 4.1: ten rounds of two products and a key that grows by a constant.
__device__ inline void philox(word counter, word k0, word k1, word w[4]) {
    w[0] = counter, w[1] = w[2] = w[3] = 0;
    for (int i = 0; i < 10; i++) {
        const word a = 0xD2E7470EE14C6C93ull, b = 0xCA5A826395121157ull;
        const word low_a = a * w[0], low_b = b * w[2];
        const word high_a = __umul64hi(a, w[0]), high_b = __umul64hi(b, w[2]);
        w[0] = high_b ^ w[1] ^ k0;
        w[1] = low_b;
        w[2] = high_a ^ w[3] ^ k1;
        w[3] = low_a;
        k0 += 0x9E3779B97F4A7C15ull;
        k1 += 0xBB67AE8584CAA73Bull;
    }
}

__device__ inline double fraction(word w) { return (double)(w >> 11) * (1.0 / 9007199254740992.0); }  // 2^-53

// A law makes the four numbers of a block.

struct Words {
    __device__ void operator()(const word w[4], word x[4]) const {
        for (int i = 0; i < 4; i++) x[i] = w[i];
    }
};

struct Uniform {
    __device__ void operator()(const word w[4], double x[4]) const {
        for (int i = 0; i < 4; i++) x[i] = fraction(w[i]);
    }
    __device__ void operator()(const word w[4], float x[4]) const {
        for (int i = 0; i < 4; i++) x[i] = (float)(w[i] >> 40) * (1.0f / 16777216.0f);  // 2^-24
    }
};

struct Normal {
    template <class T> __device__ void operator()(const word w[4], T x[4]) const {
        for (int i = 0; i < 4; i += 2) {
            const double r = sqrt(-2.0 * log(1.0 - fraction(w[i])));
            const double angle = 6.283185307179586 * fraction(w[i + 1]);
            x[i] = (T)(r * cos(angle));
            x[i + 1] = (T)(r * sin(angle));
        }
    }
};

struct Exponential {
    template <class T> __device__ void operator()(const word w[4], T x[4]) const {
        for (int i = 0; i < 4; i++) x[i] = (T)-log(1.0 - fraction(w[i]));
    }
};

struct Integers {
    long long low;
    word count;
    __device__ void operator()(const word w[4], long long x[4]) const {
        for (int i = 0; i < 4; i++) x[i] = low + (long long)__umul64hi(w[i], count);
    }
};

template <class T, class Law> __device__ inline void draw(word *stream, T *out, long long n, Law law) {
    const word drawn = stream[0], k0 = stream[1], k1 = stream[2];
    const long long blocks = (n + 3) / 4, threads = (long long)gridDim.x * blockDim.x;
    for (long long b = (long long)blockIdx.x * blockDim.x + threadIdx.x; b < blocks; b += threads) {
        word w[4];
        T x[4];
        philox(drawn + 1 + (word)b, k0, k1, w);
        law(w, x);
        for (int i = 0; i < 4 && 4 * b + i < n; i++) out[4 * b + i] = x[i];
    }
    __syncthreads();
    if (threadIdx.x == blockDim.x - 1) {
        __threadfence();
        if (atomicAdd(stream + 3, 1ull) == gridDim.x - 1) {
            stream[0] = drawn + (word)blocks;
            stream[3] = 0;
        }
    }
}

extern "C" {

__global__ void words_uint64(word *stream, word *out, long long n) { draw(stream, out, n, Words()); }
__global__ void uniform_float32(word *stream, float *out, long long n) { draw(stream, out, n, Uniform()); }
__global__ void uniform_float64(word *stream, double *out, long long n) { draw(stream, out, n, Uniform()); }
__global__ void normal_float32(word *stream, float *out, long long n) { draw(stream, out, n, Normal()); }
__global__ void normal_float64(word *stream, double *out, long long n) { draw(stream, out, n, Normal()); }
__global__ void exponential_float32(word *stream, float *out, long long n) { draw(stream, out, n, Exponential()); }
__global__ void exponential_float64(word *stream, double *out, long long n) { draw(stream, out, n, Exponential()); }
__global__ void integers_int64(word *stream, long long *out, long long n, long long low, long long high) {
    draw(stream, out, n, Integers{low, (word)(high - low)});
}

// A stream made of numbers that come with the launch: no copy from the host, so nobody waits.
__global__ void begin(word *stream, word drawn, word k0, word k1) {
    stream[0] = drawn, stream[1] = k0, stream[2] = k1, stream[3] = 0;
}
}
