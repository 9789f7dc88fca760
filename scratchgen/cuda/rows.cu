// Softmax and normalisation: each row is read, reduced and written by threads that work together.
//
// A row of up to 1024 numbers belongs to a warp (blockDim.x = 32, some rows to a block); a longer one to a block.
// Element i of row r lies at r/inner*n*inner + r mod inner + i*inner: softmax along any axis of an array without gaps.
// The largest number is taken out before exp; means come in two passes, that of the numbers first.  nan and inf come out
// where NumPy has them.  Sums are made in the type of the numbers, the partial ones of threads first, always in the same
// order.

template <class T> struct Max {
    static __device__ T start() { return -1 / T(0); }
    __device__ T operator()(T a, T b) const { return a > b || a != a ? a : b; }  // nan beats all
};
template <class T> struct Sum {
    static __device__ T start() { return 0; }
    __device__ T operator()(T a, T b) const { return a + b; }
};

// The threads of a row: what each has, made one.  All of them receive it.
template <template <class> class Op, class T> __device__ T reduced(T mine) {
    const Op<T> op;
    for (int bits = 16; bits; bits >>= 1) mine = op(mine, __shfl_xor_sync(0xffffffffu, mine, bits));
    if (blockDim.x == 32) return mine;
    __shared__ T part[32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    __syncthreads();  // the last ones to read `part` have done so
    if (lane == 0) part[warp] = mine;
    __syncthreads();
    mine = lane < blockDim.x / 32 ? part[lane] : Op<T>::start();
    for (int bits = 16; bits; bits >>= 1) mine = op(mine, __shfl_xor_sync(0xffffffffu, mine, bits));
    return mine;
}

__device__ inline long long row_of_thread() { return (long long)blockIdx.x * blockDim.y + threadIdx.y; }

// --- softmax --------------------------------------------------------------------------------------------------------

struct Row {
    long long start, stride, n;
    __device__ Row(long long row, long long length, long long inner)
        : start(row / inner * length * inner + row % inner), stride(inner), n(length) {}
    __device__ long long operator[](long long i) const { return start + i * stride; }
};
#define EACH(i, row) for (long long i = threadIdx.x; i < row.n; i += blockDim.x)

template <class T> struct Exponentials {  // of a row: their sum, and the largest number, which is taken out
    T top = Max<T>::start(), sum = 0;
    __device__ Exponentials(const T *x, const Row &row) {
        EACH(i, row) top = Max<T>()(top, x[row[i]]);
        top = reduced<Max>(top);
        EACH(i, row) sum += exp(x[row[i]] - top);
        sum = reduced<Sum>(sum);
    }
};

template <class T> __device__ void softmax(const T *x, T *y, const Row &row) {
    const Exponentials<T> e(x, row);
    EACH(i, row) y[row[i]] = exp(x[row[i]] - e.top) / e.sum;
}

template <class T> __device__ void log_softmax(const T *x, T *y, const Row &row) {
    const Exponentials<T> e(x, row);
    const T log_sum = log(e.sum);
    EACH(i, row) y[row[i]] = x[row[i]] - e.top - log_sum;
}

template <class T> __device__ void softmax_adjoint(const T *g, const T *y, T *out, const Row &row) {
    T dot = 0;
    EACH(i, row) dot += g[row[i]] * y[row[i]];
    dot = reduced<Sum>(dot);
    EACH(i, row) out[row[i]] = y[row[i]] * (g[row[i]] - dot);
}

template <class T> __device__ void log_softmax_adjoint(const T *g, const T *y, T *out, const Row &row) {
    T sum = 0;
    EACH(i, row) sum += g[row[i]];
    sum = reduced<Sum>(sum);
    EACH(i, row) out[row[i]] = g[row[i]] - exp(y[row[i]]) * sum;
}

// --- normalisation --------------------------------------------------------------------------------------------------

// The numbers of an image (P pixels, C channels) that belong to one of its groups of k channels; a vector is an image
// of one pixel and one group.  Group r of all lies in image r / (C/k).
struct Group {
    long long start;
    unsigned channels, k, n;
    __device__ Group(long long group, unsigned p, unsigned c, unsigned of) : channels(c), k(of), n(p * of) {
        const unsigned groups = c / of;
        start = group / groups * p * c + group % groups * of;
    }
};
// A thread's way through them, without a division at each step.
struct Walk {
    unsigned i, channel, sideways;
    long long place, step;
    __device__ Walk(const Group &g)
        : i(threadIdx.x), channel(i % g.k), sideways(blockDim.x % g.k),
          place(g.start + (long long)(i / g.k) * g.channels + channel),
          step((long long)(blockDim.x / g.k) * g.channels + sideways) {}
    __device__ void next(const Group &g) {
        i += blockDim.x;
        place += step;
        channel += sideways;
        if (channel >= g.k) {
            channel -= g.k;
            place += g.channels - g.k;
        }
    }
};
#define EVERY(at, group) for (Walk at(group); at.i < group.n; at.next(group))

// `copies` of each group's scale are written: one for each channel, or one.
template <class T>
__device__ void standardise(const T *x, T *y, T *scales, unsigned copies, const Group &group, T tiny) {
    T sum = 0, squares = 0;
    EVERY(at, group) sum += x[at.place];
    const T mean = reduced<Sum>(sum) / group.n;
    EVERY(at, group) {
        const T centred = x[at.place] - mean;
        squares += centred * centred;
    }
    const T scale = 1 / sqrt(reduced<Sum>(squares) / group.n + tiny);
    EVERY(at, group) y[at.place] = (x[at.place] - mean) * scale;
    for (unsigned i = threadIdx.x; i < copies; i += blockDim.x) scales[i] = scale;
}

template <class T>
__device__ void standardise_adjoint(const T *g, const T *y, T scale, T *out, const Group &group) {
    T sum = 0, dot = 0;
    EVERY(at, group) {
        sum += g[at.place];
        dot += g[at.place] * y[at.place];
    }
    const T mean = reduced<Sum>(sum) / group.n, mean_dot = reduced<Sum>(dot) / group.n;
    EVERY(at, group) out[at.place] = scale * (g[at.place] - mean - y[at.place] * mean_dot);
}

// --- for each type --------------------------------------------------------------------------------------------------

#define KERNEL extern "C" __global__ void __launch_bounds__(1024)
#define KERNELS(T) \
    KERNEL softmax_##T(const T *x, T *y, long long rows, long long n, long long inner) { \
        const long long row = row_of_thread(); \
        if (row < rows) softmax(x, y, Row(row, n, inner)); \
    } \
    KERNEL log_softmax_##T(const T *x, T *y, long long rows, long long n, long long inner) { \
        const long long row = row_of_thread(); \
        if (row < rows) log_softmax(x, y, Row(row, n, inner)); \
    } \
    KERNEL softmax_adjoint_##T(const T *g, const T *y, T *out, long long rows, long long n, long long inner) { \
        const long long row = row_of_thread(); \
        if (row < rows) softmax_adjoint(g, y, out, Row(row, n, inner)); \
    } \
    KERNEL log_softmax_adjoint_##T(const T *g, const T *y, T *out, long long rows, long long n, long long inner) { \
        const long long row = row_of_thread(); \
        if (row < rows) log_softmax_adjoint(g, y, out, Row(row, n, inner)); \
    } \
    KERNEL standardise_##T(const T *x, T *y, T *scales, long long rows, unsigned p, unsigned c, unsigned k, \
                           unsigned copies, double tiny) { \
        const long long row = row_of_thread(); \
        if (row < rows) standardise(x, y, scales + row * copies, copies, Group(row, p, c, k), (T)tiny); \
    } \
    KERNEL standardise_adjoint_##T(const T *g, const T *y, const T *scales, T *out, long long rows, unsigned p, \
                                   unsigned c, unsigned k, unsigned copies) { \
        const long long row = row_of_thread(); \
        if (row < rows) standardise_adjoint(g, y, scales[row * copies], out, Group(row, p, c, k)); \
    }

KERNELS(float)
KERNELS(double)
