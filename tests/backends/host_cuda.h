// CUDA C++ for the host: enough of the language to compile a kernel with g++ and run a grid of it, thread by thread.
//
// A block's threads take turns on one processor.  Where kernels wait for one another (__syncthreads, shuffles), each
// thread has a stack of its own and hands the processor on while it waits; where none waits, a thread is a call.
// What is undefined on a device and shows here: threads that wait at different barriers, or for one that has ended;
// a shuffle from a lane that is not there; shared memory read before it was written (it begins as NaN).

#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <math.h>  // exp, sqrt, … of float as well, as on a device
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using std::isfinite;
using std::isinf;
using std::isnan;
typedef unsigned int uint;

#ifndef HOST_CUDA_NAMES  // without it `__global__` stays in the text, where the kernels' names are looked for
#define __global__
#endif
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static thread_local  // in a segment of their own, which can be found
#define __forceinline__ __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
#define HOST_VECTORS(T, N) \
    struct N##2 { T x, y; }; \
    struct N##3 { T x, y, z; }; \
    struct alignas(sizeof(T) < 8 ? 4 * sizeof(T) : 16) N##4 { T x, y, z, w; }; \
    static inline N##2 make_##N##2(T x, T y) { return {x, y}; } \
    static inline N##3 make_##N##3(T x, T y, T z) { return {x, y, z}; } \
    static inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
HOST_VECTORS(float, float)
HOST_VECTORS(double, double)
HOST_VECTORS(int, int)
HOST_VECTORS(long long, longlong)
HOST_VECTORS(unsigned long long, ulonglong)
struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

namespace host {

// --- threads that wait for one another ----------------------------------------------------------------------------

enum State { READY, AT_WARP, AT_BLOCK, DONE };
struct Thread {
    void* stack = nullptr;
    State state = DONE;
    uint3 index;
    int line = 0;
    unsigned turn = 0;
};
static const size_t STACK = 1 << 16;
static std::vector<Thread> threads;
static std::vector<unsigned char> stacks;
static size_t now;  // whose turn it is
static void* scheduler;
static std::string error;
static void (*body)(void*);
static void* closure;
static unsigned char dynamic_shared[1 << 18] __attribute__((aligned(128)));
static size_t shared_bytes;

#if !defined(__x86_64__)
#error "the host stand-in switches stacks on x86-64 only"
#endif
extern "C" void host_switch(void** from, void* to) __attribute__((visibility("hidden")));
asm(R"(
    .text
    .hidden host_switch
    .globl host_switch
    .type host_switch, @function
host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size host_switch, .-host_switch
)");

static void wait(State state, int line) {
    Thread& mine = threads[now];
    mine.state = state;
    mine.line = line;
    host_switch(&mine.stack, scheduler);
}

static void live() {
    body(closure);
    wait(DONE, 0);
    std::abort();  // nobody wakes the dead
}

static void begin(Thread& thread, unsigned char* bottom) {
    void** top = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(bottom) + STACK) & ~uintptr_t(15));
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(live);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    thread.stack = top;
    thread.state = READY;
    thread.turn = 0;
}

// Let those go on who have waited for all of their group; false where nobody can, though not all are done.
static bool release(size_t first, size_t last, State state) {
    size_t waiting = 0, done = 0;
    for (size_t i = first; i < last; i++) {
        done += threads[i].state == DONE;
        waiting += threads[i].state == state;
    }
    if (!waiting || waiting + done < last - first) return false;
    for (size_t i = first; i < last; i++)
        if (threads[i].state == state) {
            if (done) error = "some threads have ended while others wait, at line " + std::to_string(threads[i].line);
            if (i > first && threads[i].line != threads[first].line)
                error = "threads wait at different barriers, at lines " + std::to_string(threads[first].line) +
                        " and " + std::to_string(threads[i].line);
            threads[i].state = READY;
        }
    return error.empty();
}

static void run_block_with_barriers() {
    const size_t n = threads.size();
    const bool odd = (blockIdx.x + blockIdx.y + blockIdx.z) & 1;  // the last thread first: what lacks a barrier shows
    for (size_t i = 0; i < n; i++) begin(threads[i], &stacks[i * STACK]);
    for (bool going = true; going && error.empty();) {
        for (size_t i = 0; i < n; i++) {
            now = odd ? n - 1 - i : i;
            if (threads[now].state != READY) continue;
            threadIdx = threads[now].index;
            host_switch(&scheduler, threads[now].stack);
        }
        going = release(0, n, AT_BLOCK);
        for (size_t warp = 0; warp < n; warp += 32) going |= release(warp, warp + 32 < n ? warp + 32 : n, AT_WARP);
    }
    for (auto& thread : threads)
        if (thread.state != DONE && error.empty())
            error = "a thread waits for ever, at line " + std::to_string(thread.line);
}

// All bytes of shared memory to 0xFF, which is NaN: the thread-local memory of the library that holds this function.
static int poison(dl_phdr_info* library, size_t, void*) {
    const auto here = reinterpret_cast<uintptr_t>(poison);
    const ElfW(Phdr)* local = nullptr;
    bool mine = false;
    for (int i = 0; i < library->dlpi_phnum; i++) {
        const auto& part = library->dlpi_phdr[i];
        const uintptr_t start = library->dlpi_addr + part.p_vaddr;
        mine |= part.p_type == PT_LOAD && start <= here && here < start + part.p_memsz;
        if (part.p_type == PT_TLS) local = &part;
    }
    if (mine && local && library->dlpi_tls_data) memset(library->dlpi_tls_data, 0xFF, local->p_memsz);
    return mine;
}

static void run_block() {
    static thread_local volatile unsigned char touched;  // so that this thread has such memory
    touched = 1;
    dl_iterate_phdr(poison, nullptr);
    memset(dynamic_shared, 0xFF, shared_bytes);
#ifdef HOST_CUDA_WAITS
    run_block_with_barriers();
#else
    for (auto& thread : threads) {
        threadIdx = thread.index;
        body(closure);
    }
#endif
}

static const char* run(const unsigned* grid, const unsigned* block) {
    shared_bytes = grid[3];
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    threads.assign(size_t(block[0]) * block[1] * block[2], Thread());
    size_t i = 0;
    for (unsigned z = 0; z < block[2]; z++)
        for (unsigned y = 0; y < block[1]; y++)
            for (unsigned x = 0; x < block[0]; x++) threads[i++].index = {x, y, z};
#ifdef HOST_CUDA_WAITS
    stacks.resize(threads.size() * STACK);
#endif
    error.clear();
    for (unsigned z = 0; z < grid[2] && error.empty(); z++)
        for (unsigned y = 0; y < grid[1] && error.empty(); y++)
            for (unsigned x = 0; x < grid[0] && error.empty(); x++) {
                blockIdx = {x, y, z};
                run_block();
            }
    return error.empty() ? nullptr : error.c_str();
}

// --- kernels called as a driver calls them: by an array of pointers to the arguments ------------------------------

template <class T> std::string code() {
    if (std::is_pointer<T>::value) return "*" + code<std::remove_cv_t<std::remove_pointer_t<T>>>();
    if (std::is_void<T>::value) return "V";
    const char* kind = std::is_same<T, bool>::value ? "b" : std::is_floating_point<T>::value ? "f"
                     : !std::is_integral<T>::value ? "V" : std::is_signed<T>::value ? "i" : "u";
    return kind + std::to_string(sizeof(std::conditional_t<std::is_void<T>::value, char, T>));
}

template <class... P> const char* signature(void (*)(P...)) {
    static std::string text;
    text.clear();
    (void)std::initializer_list<int>{(text += code<P>() + " ", 0)...};
    return text.c_str();
}

template <class... P, size_t... I>
const char* launch(void (*kernel)(P...), const unsigned* grid, const unsigned* block, void** args,
                   std::index_sequence<I...>) {
    auto one = [&] { kernel(*static_cast<std::remove_cv_t<P>*>(args[I])...); };
    body = [](void* f) { (*static_cast<decltype(one)*>(f))(); };
    closure = &one;
    return run(grid, block);
}

template <class... P>
const char* launch(void (*kernel)(P...), const unsigned* grid, const unsigned* block, void** args) {
    return launch(kernel, grid, block, args, std::index_sequence_for<P...>());
}

#define HOST_CUDA_KERNEL(name) \
    extern "C" const char* signature_of_##name() { return host::signature(name); } \
    extern "C" const char* launch_##name(const unsigned* grid, const unsigned* block, void** args) { \
        return host::launch(name, grid, block, args); \
    }

// --- what a warp's lanes tell one another -------------------------------------------------------------------------

static unsigned char slots[2][1024][16];  // two sets, used by turns: none is written to before all have read it

template <class T> T exchange(T value, int from, int line) {
    static_assert(sizeof(T) <= 16, "a shuffle of more than 16 bytes");
    const size_t mine = now, source = mine / 32 * 32 + from;
    auto& set = slots[threads[mine].turn++ & 1];
    memcpy(set[mine], &value, sizeof(T));
    wait(AT_WARP, line);
    if (source >= threads.size()) {
        error = "a shuffle from a lane that is not there, at line " + std::to_string(line);
        return value;
    }
    memcpy(&value, set[source], sizeof(T));
    return value;
}

static unsigned ballot(bool mine, int line) {
    unsigned votes = 0;
    const size_t lanes = threads.size() - now / 32 * 32;
    for (unsigned lane = 0; lane < 32 && lane < lanes; lane++) votes |= unsigned(exchange(mine, lane, line)) << lane;
    return votes;
}

static int lane() { return now % 32; }

template <class T> T swap(T* place, T value) { T old = *place; *place = value; return old; }

}  // namespace host

#define __syncthreads() host::wait(host::AT_BLOCK, __LINE__)
#define __syncwarp(...) host::wait(host::AT_WARP, __LINE__)
#define __shfl_sync(mask, v, from, ...) host::exchange(v, (from) & 31, __LINE__)
#define __shfl_xor_sync(mask, v, bits, ...) host::exchange(v, host::lane() ^ (bits), __LINE__)
#define __shfl_down_sync(mask, v, by, ...) \
    host::exchange(v, host::lane() + (by) < 32 ? host::lane() + (by) : host::lane(), __LINE__)
#define __shfl_up_sync(mask, v, by, ...) \
    host::exchange(v, host::lane() >= int(by) ? host::lane() - int(by) : host::lane(), __LINE__)
#define __ballot_sync(mask, p) host::ballot(p, __LINE__)
#define __any_sync(mask, p) (host::ballot(p, __LINE__) != 0)
#define __all_sync(mask, p) (host::ballot(!(p), __LINE__) == 0)
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// --- functions of a device ----------------------------------------------------------------------------------------

template <class T> static T atomicAdd(T* place, T value) { return host::swap(place, T(*place + value)); }
template <class T> static T atomicSub(T* place, T value) { return host::swap(place, T(*place - value)); }
template <class T> static T atomicMax(T* place, T value) { return host::swap(place, *place < value ? value : *place); }
template <class T> static T atomicMin(T* place, T value) { return host::swap(place, value < *place ? value : *place); }
template <class T> static T atomicExch(T* place, T value) { return host::swap(place, value); }
template <class T> static T atomicCAS(T* place, T was, T value) {
    return host::swap(place, *place == was ? value : *place);
}
template <class T> static T __ldg(const T* place) { return *place; }

template <class A, class B> static constexpr std::common_type_t<A, B> min(A a, B b) { return b < a ? b : a; }
template <class A, class B> static constexpr std::common_type_t<A, B> max(A a, B b) { return a < b ? b : a; }

static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }

template <class To, class From> static To host_bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
static inline unsigned __float_as_uint(float x) { return host_bits<unsigned>(x); }
static inline int __float_as_int(float x) { return host_bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return host_bits<float>(x); }
static inline float __int_as_float(int x) { return host_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return host_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return host_bits<double>(x); }

static inline double rsqrt(double x) { return 1 / std::sqrt(x); }
static inline float rsqrt(float x) { return 1 / std::sqrt(x); }
static inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
static inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }
static inline float normcdff(float x) { return float(normcdf(double(x))); }
static inline float normcdf(float x) { return normcdff(x); }
static inline double sinpi(double x) { return std::sin(3.14159265358979323846 * std::remainder(x, 2.0)); }
static inline double cospi(double x) { return std::cos(3.14159265358979323846 * std::remainder(x, 2.0)); }
static inline float sinpif(float x) { return float(sinpi(double(x))); }
static inline float cospif(float x) { return float(cospi(double(x))); }
static inline void sincospi(double x, double* s, double* c) { *s = sinpi(x); *c = cospi(x); }
static inline void sincospif(float x, float* s, float* c) { *s = sinpif(x); *c = cospif(x); }
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
static inline float __fdividef(float a, float b) { return a / b; }
#define HOST_ROUNDED(name, T, expression) \
    static inline T name(T a, T b) { return expression; }
HOST_ROUNDED(__fadd_rn, float, a + b)
HOST_ROUNDED(__fsub_rn, float, a - b)
HOST_ROUNDED(__fmul_rn, float, a * b)
HOST_ROUNDED(__fdiv_rn, float, a / b)
HOST_ROUNDED(__dadd_rn, double, a + b)
HOST_ROUNDED(__dsub_rn, double, a - b)
HOST_ROUNDED(__dmul_rn, double, a * b)
HOST_ROUNDED(__ddiv_rn, double, a / b)
static inline float __fsqrt_rn(float x) { return std::sqrt(x); }
static inline double __dsqrt_rn(double x) { return std::sqrt(x); }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
