// Steps of optimisers over flat buffers: each number is read once and written once.
//
// The count of steps and the learning rate lie on the device, or come with the launch: `count` and `lr` point to them,
// or are null, and then `count_given` and `lr_given` are they.  Corrections that depend on them are made in float64, once
// for each block of threads, and rounded to the type of the buffers, as NumPy's path rounds Python's numbers.

#define EACH(i, n) \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)

__device__ inline double given(const double *place, double number) { return place ? *place : number; }
__device__ inline double given(const long long *place, long long number) { return (double)(place ? *place : number); }

template <class T>
__device__ void adam(T *theta, T *m, T *v, const T *g, long long n, double count, double lr, double beta1, double beta2,
                     double tiny, double weight_decay) {
    __shared__ T of_m, of_v;
    if (threadIdx.x == 0) {
        of_m = (T)(lr / (1 - pow(beta1, count)));
        of_v = (T)(1 - pow(beta2, count));
    }
    __syncthreads();
    const T keep = (T)(1 - lr * weight_decay), to_m = (T)(1 - beta1), to_v = (T)(1 - beta2);
    EACH(i, n) {
        m[i] += (g[i] - m[i]) * to_m;
        v[i] += (g[i] * g[i] - v[i]) * to_v;
        theta[i] = theta[i] * keep - m[i] / (sqrt(v[i] / of_v) + (T)tiny) * of_m;
    }
}

template <class T> __device__ void sgd(T *theta, T *velocity, const T *g, long long n, T lr, T momentum) {
    EACH(i, n) {
        velocity[i] = velocity[i] * momentum + g[i];
        theta[i] -= velocity[i] * lr;
    }
}

template <class T> __device__ void ema(T *average, const T *theta, long long n, T part) {
    EACH(i, n) average[i] += (theta[i] - average[i]) * part;
}

#define KERNELS(T) \
    extern "C" __global__ void adam_##T(T *theta, T *m, T *v, const T *g, long long n, const long long *count, \
                                        long long count_given, const double *lr, double lr_given, double beta1, \
                                        double beta2, double tiny, double weight_decay) { \
        adam(theta, m, v, g, n, given(count, count_given), given(lr, lr_given), beta1, beta2, tiny, weight_decay); \
    } \
    extern "C" __global__ void sgd_##T(T *theta, T *velocity, const T *g, long long n, const double *lr, \
                                       double lr_given, double momentum) { \
        sgd(theta, velocity, g, n, (T)given(lr, lr_given), (T)momentum); \
    } \
    extern "C" __global__ void ema_##T(T *average, const T *theta, long long n, const double *part, \
                                       double part_given) { \
        ema(average, theta, n, (T)given(part, part_given)); \
    }

KERNELS(float)
KERNELS(double)
