"""The host stand-in for a device: kernels do what they say, and what a device would leave undefined is an error."""

import shutil

import host_cuda
import numpy as np
import pytest
from host_cuda import CudaError, ElementwiseKernel, RawKernel, RawModule

ROWS = r"""
template <class T> __device__ T warp_sum(T v) {
    for (int offset = 16; offset; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}
template <class T> __device__ inline T block_sum(T sum) {
    __shared__ T part[32];
    sum = warp_sum(sum);
    if (threadIdx.x % warpSize == 0) part[threadIdx.x / warpSize] = sum;
    BARRIER;
    return warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? part[threadIdx.x % 32] : T(0));
}
struct Square {
    template <class T> __device__ T operator()(T x) const { return x * x; }
};
extern "C" __global__ void squares_d(const double* x, double* y, long long n) {
    __shared__ double part[1024];
    double sum = 0;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += Square()(x[blockIdx.x * n + i]);
    part[threadIdx.x] = block_sum(sum);
    if (threadIdx.x == 0) y[blockIdx.x] = part[0];
}
#define ROW_SUMS(T, NAME) \
    extern "C" __global__ void __launch_bounds__(128) NAME(const T* x, T* y, long long n) { \
        __shared__ T part[32]; \
        T sum = 0; \
        for (long long i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i]; \
        sum = warp_sum(sum); \
        if (threadIdx.x % warpSize == 0) part[threadIdx.x / warpSize] = sum; \
        BARRIER; \
        sum = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : T(0); \
        if (threadIdx.x < 32) sum = warp_sum(sum); \
        if (threadIdx.x == 0) y[blockIdx.x] = sum; \
    }
ROW_SUMS(float, sums_f)
ROW_SUMS(double, sums_d)
"""
BARRIER = ("-DBARRIER=__syncthreads()",)


def kernel(body: str, parameters: str = "float* x", before: str = "") -> RawKernel:
    return RawKernel(f'{before}\nextern "C" __global__ void f({parameters}) {{ {body} }}', "f")


@pytest.mark.parametrize("dtype, name", [(np.float32, "sums_f"), (np.float64, "sums_d"), (np.float64, "squares_d")])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_blocks_shared_memory_and_shuffles(dtype, name, n):
    x = np.random.default_rng(n).standard_normal((5, n)).astype(dtype)
    y = np.empty(5, dtype)
    RawModule(code=ROWS, options=BARRIER).get_function(name)((5,), (128,), (x, y, n))
    expected = (x * x if name.startswith("squares") else x).sum(axis=1)
    np.testing.assert_allclose(y, expected, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-5)


@pytest.mark.parametrize("name", ["sums_d", "squares_d"])
def test_a_missing_barrier_gives_nan(name):
    x, y = np.ones((2, 300)), np.empty(2)
    RawModule(code=ROWS, options=("-DBARRIER=",)).get_function(name)((2,), (128,), (x, y, 300))
    assert np.isnan(y).any()


def test_dynamic_shared_memory():
    reverse = kernel(
        "part[threadIdx.x] = x[threadIdx.x]; __syncthreads(); x[threadIdx.x] = part[blockDim.x - 1 - threadIdx.x];",
        before="extern __shared__ float part[];",
    )
    x = np.arange(40, dtype=np.float32)
    reverse((1,), (40,), (x,), shared_mem=160)
    assert x.tolist() == list(range(39, -1, -1))
    with pytest.raises(CudaError, match="shared memory"):
        reverse((1,), (40,), (x,), shared_mem=1 << 16)


def test_a_grid_of_three_dimensions_and_atomics():
    count = kernel(
        "atomicAdd(x, 1); x[1 + blockIdx.z * 6 + blockIdx.y * 3 + blockIdx.x] += threadIdx.y == 1;", "int* x"
    )
    x = np.zeros(13, np.int32)
    count((3, 2, 2), (2, 3), (x,))
    assert x.tolist() == [72] + [2] * 12


def test_words_of_64_bits():
    a = np.array([2**63 + 12345, 987654321], np.uint64)
    high = np.empty(2, np.uint64)
    body = "x[threadIdx.x] = __umul64hi(a[threadIdx.x], 0xD2E7470EE14C6C93ull);"
    kernel(body, "const unsigned long long* a, unsigned long long* x")((1,), (2,), (a, high))
    assert high.tolist() == [int(v) * 0xD2E7470EE14C6C93 >> 64 for v in a]


def test_views_of_one_array_are_lent_in_its_place():
    x = np.arange(10, dtype=np.float32)
    kernel("x[threadIdx.x] *= y[3 - threadIdx.x];", "float* x, const float* y")((1,), (2,), (x[2:5], x[4:8]))
    assert x.tolist() == [0, 1, 2 * 7, 3 * 6, 4, 5, 6, 7, 8, 9]
    kernel("x[0] = y[0]; x[1] = y[0];", "float* x, const float* y")((1,), (1,), (x[5:7], x[6:]))
    assert x[5] == x[6] == 6


@pytest.mark.parametrize(
    "arguments, what",
    [
        ((np.zeros(3, np.float64), np.int32(3)), r"argument 0 is \*f8, the parameter \*f4"),
        ((np.zeros(3, np.float32), 3), "argument 1 is i8, the parameter i4"),
        ((np.zeros(3, np.float32), np.float32(3)), "argument 1 is f4, the parameter i4"),
        ((np.zeros(3, np.float32),), "1 arguments for 2 parameters"),
    ],
)
def test_arguments_are_those_of_the_parameters(arguments, what):
    with pytest.raises(CudaError, match=what):
        kernel("x[0] = n;", "float* x, int n")((1,), (1,), arguments)


@pytest.mark.parametrize("place", [-1, 3, 200])
def test_writing_beyond_an_array(place):
    x = np.zeros(3, np.float32)
    with pytest.raises(CudaError, match="f writes beyond an array"):
        kernel(f"x[{place}] = 1;")((1,), (1,), (x,))


def test_reading_beyond_an_array():
    x = np.zeros(3, np.float32)
    kernel("x[0] = x[3];")((1,), (1,), (x,))
    assert np.isnan(x[0])


@pytest.mark.parametrize(
    "body, what",
    [
        ("if (threadIdx.x < 3) __syncthreads(); else\n__syncthreads();", "different barriers, at lines 2 and 3"),
        ("if (threadIdx.x < 3) __syncthreads();", "some threads have ended while others wait, at line 2"),
        ("x[0] = __shfl_sync(~0u, x[0], 30);", "a shuffle from a lane that is not there, at line 2"),
    ],
)
def test_threads_that_wait_in_vain(body, what):
    with pytest.raises(CudaError, match=what):
        kernel(body)((1,), (7,), (np.zeros(3, np.float32),))


@pytest.mark.parametrize("grid, block", [((0,), (1,)), ((1,), (0,)), ((1,), (1025,)), ((1, 1 << 16), (1,))])
def test_sizes_that_no_device_takes(grid, block):
    with pytest.raises(CudaError, match=r"a (grid|block) of"):
        kernel("")(grid, block, (np.zeros(3, np.float32),))


def test_what_is_no_cuda_is_refused():
    with pytest.raises(CudaError, match="g\\+\\+ refuses"):
        kernel("x[0] = nonsense;")((1,), (1,), (np.zeros(1, np.float32),))
    with pytest.raises(CudaError, match="not ASCII"):
        RawKernel('extern "C" __global__ void f() {}  // \u03bc', "f").compile()
    with pytest.raises(CudaError, match="no kernel 'g'"):
        RawKernel('extern "C" __global__ void f() {}', "g")((1,), (1,), ())
    with pytest.raises(TypeError, match="a list cannot be handed"):
        kernel("")((1,), (1,), ([1.0],))


def test_an_elementwise_kernel():
    f = ElementwiseKernel("T x, T y, raw int64 shift", "T z, bool big", "z = x + 2 * y + shift[0]; big = z > i", "f")
    x, y = np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0, 3.0])
    z, big = f(x, y, np.array([10]))
    np.testing.assert_array_equal(z, x + 2 * y + 10)
    assert big.dtype == bool and big.all()
    out = np.zeros((3, 2), np.float32).T
    g = ElementwiseKernel("T x, T y", "T z", "z = x * y", "g")
    assert g(x.astype(np.float32), 3, out) is out
    np.testing.assert_array_equal(out, 3 * x)
    with pytest.raises(TypeError, match="y is float32, not float64"):
        g(x, out)


def test_without_a_compiler_it_skips(monkeypatch):
    host_cuda.compiled.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(pytest.skip.Exception, match=r"no g\+\+ here"):
        kernel("x[0] = 4321;")((1,), (1,), (np.zeros(3, np.float32),))


def test_kernels_on_the_cupy_made_of_numpy(cupy):
    import cupy as cp

    x = cp.asarray(np.arange(4, dtype=np.float32))
    double = cp.RawKernel('extern "C" __global__ void f(float* x) { x[threadIdx.x] *= 2; }', "f")
    double((1,), (4,), (x,))
    assert cupy.to_numpy(x).tolist() == [0, 2, 4, 6]
    with pytest.raises(TypeError, match="a ndarray cannot be handed"):
        double((1,), (4,), (np.zeros(4, np.float32),))
    y = cp.ElementwiseKernel("T x", "T y", "y = x + 1", "g")(x)
    assert type(y) is cp.ndarray and cupy.to_numpy(y).tolist() == [1, 3, 5, 7]
