// Small matrices, up to 32 x 32, many at a time: Cholesky's factor, and inv(A)*B by Gauss, with the largest pivot first.
//
// A matrix belongs to a warp (blockDim.x = 32, some matrices to a block), which works on it in shared memory.  Lane i has
// row i of it while it is factored, and afterwards column i of B.  Nothing is told to the host: a matrix that is not
// positive definite has a factor of nan, and a singular one gives inf or nan.

#define SIDE 32
#define PITCH 33  // an odd number of columns, so that a column's numbers lie in different banks
#define WARPS 4
#define ALL 0xffffffffu

template <class T> struct Tile {  // the warp's matrix
    T *at;
    __device__ T &operator()(int i, int j) const { return at[i * PITCH + j]; }
};

template <class T> __device__ Tile<T> loaded(const T *x, int n) {
    __shared__ T memory[WARPS * SIDE * PITCH];
    const Tile<T> a{memory + threadIdx.y * SIDE * PITCH};
    const int column = threadIdx.x;
    if (column < n)
        for (int i = 0; i < n; i++) a(i, column) = x[i * n + column];
    __syncwarp();
    return a;
}

// L lower triangular with L*L' = x, of which only the lower triangle is read.
template <class T> __device__ void cholesky(const T *x, T *y, int n) {
    const Tile<T> a = loaded(x, n);
    const int i = threadIdx.x;
    bool positive = true;
    for (int k = 0; k < n; k++) {
        const T pivot = a(k, k), root = sqrt(pivot);
        positive = positive && pivot > 0;
        __syncwarp();  // all have read the pivot
        if (i >= k && i < n) a(i, k) = i == k ? root : a(i, k) / root;
        __syncwarp();
        if (i > k && i < n)
            for (int j = k + 1; j <= i; j++) a(i, j) -= a(i, k) * a(j, k);
        __syncwarp();
    }
    if (i < n)
        for (int row = 0; row < n; row++) y[row * n + i] = !positive ? sqrt(T(-1)) : i <= row ? a(row, i) : T(0);
}

// The row, k or below, with the largest number in column k; the first of equals.  nan is taken for infinity.
template <class T> __device__ int pivot_row(const Tile<T> &a, int k, int n) {
    int row = threadIdx.x;
    T most = row >= k && row < n ? fabs(a(row, k)) : T(-1);
    if (most != most) most = 1 / T(0);
    for (int bits = 16; bits; bits >>= 1) {
        const T other = __shfl_xor_sync(ALL, most, bits);
        const int there = __shfl_xor_sync(ALL, row, bits);
        if (other > most || (other == most && there < row)) {
            most = other;
            row = there;
        }
    }
    return row;
}

// y = inv(x)*b, (n, columns); without b, of the identity.  L*U = the rows of x in another order, `order`.
template <class T> __device__ void solve(const T *x, const T *b, T *y, int n, long long columns) {
    __shared__ int orders[WARPS * SIDE];
    int *order = orders + threadIdx.y * SIDE;
    const Tile<T> a = loaded(x, n);
    const int i = threadIdx.x;
    order[i] = i;
    __syncwarp();
    for (int k = 0; k < n; k++) {
        const int p = pivot_row(a, k, n);  // after which all have read the column
        if (i < n && p != k) {
            const T above = a(k, i);
            a(k, i) = a(p, i);
            a(p, i) = above;
        }
        if (i == 0 && p != k) {
            const int above = order[k];
            order[k] = order[p];
            order[p] = above;
        }
        __syncwarp();
        if (i > k && i < n) {
            const T factor = a(i, k) / a(k, k);
            for (int j = k + 1; j < n; j++) a(i, j) -= factor * a(k, j);
            a(i, k) = factor;
        }
        __syncwarp();
    }
    for (long long c = blockIdx.y * 32LL + i; c < columns; c += gridDim.y * 32LL) {
        for (int row = 0; row < n; row++) {
            T sum = b ? b[order[row] * columns + c] : T(order[row] == c);
            for (int j = 0; j < row; j++) sum -= a(row, j) * y[j * columns + c];
            y[row * columns + c] = sum;
        }
        for (int row = n - 1; row >= 0; row--) {
            T sum = y[row * columns + c];
            for (int j = row + 1; j < n; j++) sum -= a(row, j) * y[j * columns + c];
            y[row * columns + c] = sum / a(row, row);
        }
    }
}

#define KERNELS(T) \
    extern "C" __global__ void cholesky_##T(const T *x, T *y, long long count, int n) { \
        const long long m = (long long)blockIdx.x * WARPS + threadIdx.y; \
        if (m < count) cholesky(x + m * n * n, y + m * n * n, n); \
    } \
    extern "C" __global__ void solve_##T(const T *x, const T *b, T *y, long long count, int n, long long columns) { \
        const long long m = (long long)blockIdx.x * WARPS + threadIdx.y; \
        if (m < count) solve(x + m * n * n, b ? b + m * n * columns : b, y + m * n * columns, n, columns); \
    }

KERNELS(float)
KERNELS(double)
