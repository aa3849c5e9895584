// Convolutions: the choice of the kernel, and the path for all sizes. That path copies patches of x
// into the rows of a matrix (im2col), one piece at a time, and multiplies it by the weights.
#include <algorithm>

#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/channel_vectors.cuh"
#include "backend/cuda/sm90/conv3d.h"

namespace mochi::cuda {

extern template void compute(Gpu&, const ops::Linear&);

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
  store_vector(g_patches + i * kWidth, load_vector<T, kWidth>(g_pixel + vector_idx * kWidth));
}

int num_taps_of(const ops::Conv3d& op) {
  const Shape& weight = op.weight.shape();
  return static_cast<int>(weight[2] * weight[3] * weight[4]);
}

bool has_unit_stride(const ops::Conv3d& op) {
  return op.stride[0] == 1 && op.stride[1] == 1 && op.stride[2] == 1;
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
  dispatch(weight.dtype(), [&]<typename T>() {
    const std::int64_t row_bytes = num_taps * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t piece = std::clamp<std::int64_t>(kRepackBytes / row_bytes, 1, in_channels);
    const dim3 grid(static_cast<unsigned>((in_channels + piece - 1) / piece),
                    static_cast<unsigned>(weight.dim(0)));
    repack_kernel<T><<<grid, kThreads, static_cast<std::size_t>(piece * row_bytes), stream>>>(
        data_of<const T>(weight), data_of<T>(packed), in_channels, num_taps,
        static_cast<int>(piece));
  });
  return packed;
}

// Fills patches [count, taps·channels].
void gather_patches(const ops::Conv3d& op, std::int64_t first, const TensorView& patches,
                    cudaStream_t stream) {
  const TensorView& x = op.x;
  const Patches sizes{.rows = x.dim(1),
                      .columns = x.dim(2),
                      .channels = x.dim(3),
                      .out_rows = op.out.dim(1),
                      .out_columns = op.out.dim(2),
                      .kh = static_cast<int>(op.weight.dim(3)),
                      .kw = static_cast<int>(op.weight.dim(4)),
                      .num_taps = num_taps_of(op),
                      .stride_t = op.stride[0],
                      .stride_h = op.stride[1],
                      .stride_w = op.stride[2]};
  dispatch_vectors(x.dtype(), x.dim(3), [&]<typename T, int kWidth>() {
    const std::int64_t num_threads = patches.num_elements() / kWidth;
    patches_kernel<T, kWidth>
        <<<static_cast<unsigned>((num_threads + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
            data_of<const T>(x), data_of<T>(patches), sizes, first, patches.dim(0));
  });
}

// `weight` is the repacked one.
sm90::Conv3dParams describe(const ops::Conv3d& op, const TensorView& weight) {
  const Shape& kernel = op.weight.shape();
  return {.g_x = op.x.bytes(),
          .g_weight = weight.bytes(),
          .g_bias = op.bias ? data_of<const float>(op.bias) : nullptr,
          .g_residual = op.residual.bytes(),
          .g_out = op.out.bytes(),
          .frames = op.x.dim(0),
          .rows = op.x.dim(1),
          .columns = op.x.dim(2),
          .in_channels = op.x.dim(3),
          .out_channels = op.out.dim(3),
          .kt = static_cast<int>(kernel[2]),
          .kh = static_cast<int>(kernel[3]),
          .kw = static_cast<int>(kernel[4])};
}

// The patches follow the packed weights, at a multiple of 256 bytes.
std::size_t weight_bytes_of(const ops::Conv3d& op) {
  return (op.weight.size_bytes() + 255) / 256 * 256;
}

// Multiplies patches of all sizes and strides.
void convolve_by_patches(Gpu& gpu, const ops::Conv3d& op) {
  const int num_taps = num_taps_of(op);
  const std::int64_t num_pixels = op.out.num_elements() / op.out.dim(3);
  const std::int64_t depth = num_taps * op.x.dim(3);
  const std::size_t element_bytes = dtype_bytes(gpu.activation_dtype());
  const TensorView rows = op.out.reshape({num_pixels, op.out.dim(3)});
  const std::int64_t piece = std::clamp<std::int64_t>(
      kPatchBytes / static_cast<std::int64_t>(depth * element_bytes), 1, num_pixels);
  std::byte* g_memory = gpu.conv_memory(weight_bytes_of(op) +
                                        static_cast<std::size_t>(piece * depth) * element_bytes);
  const TensorView weight =
      repack(op.weight, num_taps, g_memory, gpu.stream()).reshape({op.out.dim(3), depth});
  const auto multiply = [&](const TensorView& x, const TensorView& out) {
    compute(gpu, ops::Linear{.x = x,
                             .weight = weight,
                             .bias = op.bias,
                             .out = out,
                             .accumulate = static_cast<bool>(op.residual)});
  };
  if (num_taps == 1 && has_unit_stride(op)) {
    return multiply(op.x.reshape({num_pixels, depth}), rows);
  }
  for (std::int64_t begin = 0; begin < num_pixels; begin += piece) {
    const std::int64_t end = std::min(begin + piece, num_pixels);
    const TensorView patches(g_memory + weight_bytes_of(op), gpu.activation_dtype(),
                             {end - begin, depth}, gpu.device());
    gather_patches(op, begin, patches, gpu.stream());
    multiply(patches, rows.rows(begin, end));
  }
}

}  // namespace

void run(Gpu& gpu, const ops::Conv3d& op) {
  if (op.out.num_elements() == 0) return;
  const bool is_bf16 = gpu.activation_dtype() == DType::kBF16;
  if (gpu.is_hopper() && is_bf16 && has_unit_stride(op) &&
      sm90::suits_conv3d(describe(op, op.weight))) {
    const TensorView weight =
        repack(op.weight, num_taps_of(op), gpu.conv_memory(weight_bytes_of(op)), gpu.stream());
    return sm90::launch_conv3d(describe(op, weight), gpu.num_multiprocessors(), gpu.stream());
  }
  if (op.residual && op.residual.bytes() != op.out.bytes()) {
    check(cudaMemcpyAsync(op.out.bytes(), op.residual.bytes(), op.out.size_bytes(),
                          cudaMemcpyDeviceToDevice, gpu.stream()),
          "copying a residual");
  }
  convolve_by_patches(gpu, op);
  check_launch("conv3d");
}
template void compute(Gpu&, const ops::Conv3d&);

}  // namespace mochi::cuda
