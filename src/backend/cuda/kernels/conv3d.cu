// Convolutions: the choice of the kernel, and the path for all sizes. That path copies patches of x
// into the rows of a matrix (im2col), one piece at a time, and multiplies it by the weights.
#include <algorithm>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/channel_vectors.cuh"
#include "backend/cuda/kernels/dispatch.cuh"
#include "backend/cuda/sm90/conv3d.h"

namespace mochi {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kPatchBytes = std::int64_t{128} << 20;  // bytes of patches at a time
constexpr int kRepackBytes = 40 << 10;                         // bytes of shared memory

// g_out [out_channels, taps, in_channels] = g_weight [out_channels, in_channels, taps].
// Grid: pieces of `piece` input channels, output channels; shared: [piece, taps].
template <typename T>
__global__ void __launch_bounds__(kThreads)
    repack_kernel(const T* g_weight, T* g_out, std::int64_t in_channels, int num_taps, int piece) {
  extern __shared__ unsigned char s_raw[];
  T* s_piece = reinterpret_cast<T*>(s_raw);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * piece;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(piece), in_channels - first));
  const std::int64_t row = blockIdx.y * in_channels * num_taps;
  for (int i = threadIdx.x; i < count * num_taps; i += kThreads) {
    s_piece[i] = g_weight[row + first * num_taps + i];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < count * num_taps; i += kThreads) {
    const int tap = i / count;
    const int channel = i % count;
    g_out[row + tap * in_channels + first + channel] = s_piece[channel * num_taps + tap];
  }
}

struct Patches {
  std::int64_t rows, columns, channels;  // sizes of x
  std::int64_t out_rows, out_columns;
  int kh, kw, num_taps;
  int stride_t, stride_h, stride_w;
};

// g_patches [count, taps, channels]: the inputs of output pixels [first, first + count).
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    patches_kernel(const T* g_x, T* g_patches, Patches sizes, std::int64_t first,
                   std::int64_t count) {
  const std::int64_t num_vectors = sizes.channels / kWidth;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count * sizes.num_taps * num_vectors) return;
  const std::int64_t vector_idx = i % num_vectors;
  const int tap = static_cast<int>(i / num_vectors % sizes.num_taps);
  const std::int64_t pixel = first + i / num_vectors / sizes.num_taps;
  const std::int64_t column = pixel % sizes.out_columns * sizes.stride_w + tap % sizes.kw;
  const std::int64_t row =
      pixel / sizes.out_columns % sizes.out_rows * sizes.stride_h + tap / sizes.kw % sizes.kh;
  const std::int64_t frame =
      pixel / sizes.out_columns / sizes.out_rows * sizes.stride_t + tap / sizes.kw / sizes.kh;
  const T* g_pixel = g_x + ((frame * sizes.rows + row) * sizes.columns + column) * sizes.channels;
  cuda::store_vector(g_patches + i * kWidth,
                     cuda::load_vector<T, kWidth>(g_pixel + vector_idx * kWidth));
}

int num_taps_of(const Conv3d& params) {
  const Shape& weight = params.weight.shape();
  return static_cast<int>(weight[2] * weight[3] * weight[4]);
}

bool has_unit_stride(const Conv3d& params) {
  return params.stride[0] == 1 && params.stride[1] == 1 && params.stride[2] == 1;
}

// Returns the weights as [out_channels, taps, in_channels]: unchanged if there is one tap, else in
// g_target. Each call repacks them; that costs little compared with the convolution, and nothing
// can become stale.
TensorView repack(const TensorView& weight, int num_taps, std::byte* g_target,
                  cudaStream_t stream) {
  const std::int64_t in_channels = weight.dim(1);
  const Shape shape{weight.dim(0), num_taps, in_channels};
  if (num_taps == 1) return weight.reshape(shape);
  const TensorView packed(g_target, weight.dtype(), shape, weight.device());
  cuda::dispatch(weight.dtype(), [&]<typename T>() {
    const std::int64_t row_bytes = num_taps * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t piece = std::clamp<std::int64_t>(kRepackBytes / row_bytes, 1, in_channels);
    const dim3 grid(static_cast<unsigned>((in_channels + piece - 1) / piece),
                    static_cast<unsigned>(weight.dim(0)));
    repack_kernel<T><<<grid, kThreads, static_cast<std::size_t>(piece * row_bytes), stream>>>(
        cuda::data_of<const T>(weight), cuda::data_of<T>(packed), in_channels, num_taps,
        static_cast<int>(piece));
  });
  return packed;
}

// Fills patches [count, taps·channels].
void gather_patches(const TensorView& x, const Conv3d& params, const TensorView& out,
                    std::int64_t first, const TensorView& patches, cudaStream_t stream) {
  const Patches sizes{.rows = x.dim(1),
                      .columns = x.dim(2),
                      .channels = x.dim(3),
                      .out_rows = out.dim(1),
                      .out_columns = out.dim(2),
                      .kh = static_cast<int>(params.weight.dim(3)),
                      .kw = static_cast<int>(params.weight.dim(4)),
                      .num_taps = num_taps_of(params),
                      .stride_t = params.stride[0],
                      .stride_h = params.stride[1],
                      .stride_w = params.stride[2]};
  cuda::dispatch_vectors(x.dtype(), x.dim(3), [&]<typename T, int kWidth>() {
    const std::int64_t num_threads = patches.num_elements() / kWidth;
    patches_kernel<T, kWidth>
        <<<static_cast<unsigned>((num_threads + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
            cuda::data_of<const T>(x), cuda::data_of<T>(patches), sizes, first, patches.dim(0));
  });
}

cuda::sm90::Conv3dParams describe(const TensorView& x, const Conv3d& params,
                                  const TensorView& weight, const TensorView& out) {
  const Shape& kernel = params.weight.shape();
  return {.g_x = x.bytes(),
          .g_weight = weight.bytes(),
          .g_bias = params.bias ? cuda::data_of<const float>(params.bias) : nullptr,
          .g_residual = params.residual.bytes(),
          .g_out = out.bytes(),
          .frames = x.dim(0),
          .rows = x.dim(1),
          .columns = x.dim(2),
          .in_channels = x.dim(3),
          .out_channels = out.dim(3),
          .kt = static_cast<int>(kernel[2]),
          .kh = static_cast<int>(kernel[3]),
          .kw = static_cast<int>(kernel[4])};
}

}  // namespace

void CudaBackend::do_conv3d(const TensorView& x, const Conv3d& params, const TensorView& out) {
  if (out.num_elements() == 0) return;
  const int num_taps = num_taps_of(params);
  const std::int64_t num_pixels = out.num_elements() / out.dim(3);
  const std::int64_t depth = num_taps * x.dim(3);
  const std::size_t element_bytes = dtype_bytes(activation_dtype_);
  // The patches follow the packed weights, at a multiple of 256 bytes.
  const std::size_t weight_bytes = (params.weight.size_bytes() + 255) / 256 * 256;
  const bool is_bf16 = activation_dtype_ == DType::kBF16;
  if (is_hopper() && is_bf16 && has_unit_stride(params) &&
      cuda::sm90::suits_conv3d(describe(x, params, params.weight, out))) {
    const TensorView weight =
        repack(params.weight, num_taps, grow(conv_memory_, weight_bytes), stream_);
    return cuda::sm90::launch_conv3d(describe(x, params, weight, out),
                                     properties_.multiProcessorCount, stream_);
  }
  if (params.residual && params.residual.bytes() != out.bytes()) {
    cuda::check(cudaMemcpyAsync(out.bytes(), params.residual.bytes(), out.size_bytes(),
                                cudaMemcpyDeviceToDevice, stream_),
                "copying a residual");
  }
  const LinearOptions options{.accumulate = static_cast<bool>(params.residual)};
  const TensorView rows = out.reshape({num_pixels, out.dim(3)});
  const std::int64_t piece = std::clamp<std::int64_t>(
      kPatchBytes / static_cast<std::int64_t>(depth * element_bytes), 1, num_pixels);
  std::byte* g_memory =
      grow(conv_memory_, weight_bytes + static_cast<std::size_t>(piece * depth) * element_bytes);
  const TensorView weight =
      repack(params.weight, num_taps, g_memory, stream_).reshape({out.dim(3), depth});
  if (num_taps == 1 && has_unit_stride(params)) {
    return do_linear(x.reshape({num_pixels, depth}), weight, params.bias, rows, options);
  }
  for (std::int64_t begin = 0; begin < num_pixels; begin += piece) {
    const std::int64_t end = std::min(begin + piece, num_pixels);
    const TensorView patches(g_memory + weight_bytes, activation_dtype_, {end - begin, depth},
                             Device::kCuda);
    gather_patches(x, params, out, begin, patches, stream_);
    do_linear(patches, weight, params.bias, rows.rows(begin, end), options);
  }
  cuda::check_launch("conv3d");
}

}  // namespace mochi
