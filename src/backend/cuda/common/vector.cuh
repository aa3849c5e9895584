// Vectors of 16 bytes of consecutive elements, which one thread reads or writes at a time.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <initializer_list>

namespace mochi::cuda {

template <typename T>
constexpr int kVectorSize = 16 / static_cast<int>(sizeof(T));

// Returns true if rows of `width` elements can be read and written as vectors.
template <typename T>
bool has_vector_rows(std::int64_t width, std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers) {
    if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0) return false;
  }
  return width % kVectorSize<T> == 0;
}

__device__ inline void unpack(const uint4& bits, float (&values)[4]) {
  values[0] = __uint_as_float(bits.x);
  values[1] = __uint_as_float(bits.y);
  values[2] = __uint_as_float(bits.z);
  values[3] = __uint_as_float(bits.w);
}

// A bfloat16 is the upper half of a float. The element with the lower index is in the lower half of
// a word.
__device__ inline void unpack(const uint4& bits, float (&values)[8]) {
  const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = __uint_as_float(words[i] << 16);
    values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
  }
}

__device__ inline uint4 pack(const float (&values)[4]) {
  return {__float_as_uint(values[0]), __float_as_uint(values[1]), __float_as_uint(values[2]),
          __float_as_uint(values[3])};
}

__device__ inline uint4 pack(const float (&values)[8]) {
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
    words[i] = __bfloat16_as_ushort(pair.x) |
               static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
  }
  return {words[0], words[1], words[2], words[3]};
}

// Loads the vector of elements [kVectorSize·i, …) at g.
template <typename T>
__device__ uint4 load_vector(const T* g, std::int64_t i) {
  return reinterpret_cast<const uint4*>(g)[i];
}

// Loads a vector that is read only once and need not stay in the caches.
template <typename T>
__device__ uint4 load_vector_once(const T* g, std::int64_t i) {
  return __ldcs(reinterpret_cast<const uint4*>(g) + i);
}

template <typename T>
__device__ void store_vector(T* g, std::int64_t i, const float (&values)[kVectorSize<T>]) {
  reinterpret_cast<uint4*>(g)[i] = pack(values);
}

// Returns the sum of a value over each aligned group of kLanes threads of a warp, in all of them.
template <int kLanes = 32>
__device__ float sum_over_lanes(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, offset);
  }
  return value;
}

// Returns the largest value of each aligned group of kLanes threads of a warp, in all of them.
template <int kLanes = 32>
__device__ float max_over_lanes(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, offset));
  }
  return value;
}

}  // namespace mochi::cuda
