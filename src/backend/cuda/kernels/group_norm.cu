// Group norm of channels-last frames in three kernels: sums over pieces of a frame; a factor and an
// offset per channel from these; one pass that applies them. The pieces depend on a frame's size
// only, so a frame's result does not depend on the number of frames in a call.
#include <algorithm>

#include "backend/cuda/common/activation.cuh"
#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/channel_vectors.cuh"

namespace mochi::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;                                      // loads in progress per thread
constexpr std::int64_t kPieceElements = std::int64_t{1} << 16;  // summed up by one block

struct Sizes {
  std::int64_t num_pixels;  // pixels of a frame
  std::int64_t num_pieces;  // pieces of a frame
  std::int64_t piece;       // pixels of a piece
  int columns;
  int rows;
  int channels;
  int halo;
};

// The shape of a block: x runs over the vectors of a pixel, y over pixels.
dim3 block_shape(int num_vectors) {
  const int x = std::min(num_vectors, kThreads);
  return {static_cast<unsigned>(x), static_cast<unsigned>(kThreads / x)};
}

// g_sums [frames, pieces, 2, channels]: Σ(x − pivot) and Σ(x − pivot)² over one piece's pixels. The
// pivot, which is the frame's first pixel, keeps the squares small if the mean is far from zero.
// Grid: pieces, frames, blocks of vectors.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) sum_kernel(const T* g_x, float* g_sums, Sizes sizes) {
  __shared__ float s_sums[kThreads * kWidth * 2];
  const int vector_idx = blockIdx.z * blockDim.x + threadIdx.x;
  const bool is_inside = vector_idx * kWidth < sizes.channels;
  const std::int64_t begin = blockIdx.x * sizes.piece;
  const std::int64_t end = min(begin + sizes.piece, sizes.num_pixels);
  float sums[kWidth] = {};
  float squares[kWidth] = {};
  if (is_inside) {
    const T* g_frame = g_x + blockIdx.y * sizes.num_pixels * sizes.channels + vector_idx * kWidth;
    const auto pivot = load_vector<T, kWidth>(g_frame);
    const auto add = [&](const ChannelVector<T, kWidth>& x) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float value = x[i] - pivot[i];
        sums[i] += value;
        squares[i] += value * value;
      }
    };
    std::int64_t pixel = begin + threadIdx.y;
    for (; pixel + (kUnroll - 1) * blockDim.y < end; pixel += kUnroll * blockDim.y) {
      ChannelVector<T, kWidth> x[kUnroll];
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) {
        x[i] = load_vector<T, kWidth>(g_frame + (pixel + i * blockDim.y) * sizes.channels);
      }
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) add(x[i]);
    }
    for (; pixel < end; pixel += blockDim.y) {
      add(load_vector<T, kWidth>(g_frame + pixel * sizes.channels));
    }
  }
  // The layout is [y][2][x·kWidth]; each channel is then summed over y in order.
  const int width = blockDim.x * kWidth;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    s_sums[threadIdx.y * 2 * width + threadIdx.x * kWidth + i] = sums[i];
    s_sums[(threadIdx.y * 2 + 1) * width + threadIdx.x * kWidth + i] = squares[i];
  }
  __syncthreads();
  const int first_channel = blockIdx.z * width;
  float* g_piece =
      g_sums + (blockIdx.y * sizes.num_pieces + blockIdx.x) * 2 * sizes.channels + first_channel;
  for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < 2 * width;
       i += blockDim.x * blockDim.y) {
    float total = 0.0F;
    for (int y = 0; y < blockDim.y; ++y) total += s_sums[y * 2 * width + i];
    const int channel = i % width;
    if (first_channel + channel < sizes.channels) {
      g_piece[i / width * sizes.channels + channel] = total;
    }
  }
}

// Adds up `value` over the threads of a block in a fixed order. All threads get the result.
__device__ double block_sum(double value, double* s_values) {
  s_values[threadIdx.x] = value;
  __syncthreads();
  for (int step = kThreads / 2; step > 0; step /= 2) {
    if (threadIdx.x < step) s_values[threadIdx.x] += s_values[threadIdx.x + step];
    __syncthreads();
  }
  const double total = s_values[0];
  __syncthreads();
  return total;
}

struct NormParams {
  const float* weight;  // [channels]
  const float* bias;    // [channels]
  int group_width;      // channels of a group
  float eps;
};

// Turns the sums of one frame and group into y = x·factor + offset per channel: g_factors [frames,
// 2, channels]. Grid: groups, frames; shared: [group_width] double2.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    fold_kernel(const T* g_x, const float* g_sums, NormParams params, Sizes sizes,
                float* g_factors) {
  extern __shared__ double2 s_channels[];  // mean and mean square relative to the pivot
  __shared__ double s_values[kThreads];
  const int width = params.group_width;
  const int first = blockIdx.x * width;
  const T* g_pivot = g_x + blockIdx.y * sizes.num_pixels * sizes.channels + first;
  const float* g_frame = g_sums + blockIdx.y * sizes.num_pieces * 2 * sizes.channels + first;
  // If the group is narrow, several threads share a channel's pieces.
  const int columns = min(width, kThreads);
  const int lanes = kThreads / columns;
  const int column = threadIdx.x % columns;
  const int lane = threadIdx.x / columns;
  const auto num_pixels = static_cast<double>(sizes.num_pixels);
  __shared__ double2 s_lanes[kThreads];
  for (int base = 0; base < width; base += columns) {
    double sum = 0.0;
    double square = 0.0;
    if (lane < lanes && base + column < width) {
      for (std::int64_t piece = lane; piece < sizes.num_pieces; piece += lanes) {
        const float* g_piece = g_frame + piece * 2 * sizes.channels + base + column;
        sum += g_piece[0];
        square += g_piece[sizes.channels];
      }
    }
    s_lanes[threadIdx.x] = {sum, square};
    __syncthreads();
    if (lane == 0 && base + column < width) {
      for (int i = 1; i < lanes; ++i) {
        sum += s_lanes[i * columns + column].x;
        square += s_lanes[i * columns + column].y;
      }
      s_channels[base + column] = {sum / num_pixels, square / num_pixels};
    }
    __syncthreads();
  }
  double part = 0.0;
  for (int c = threadIdx.x; c < width; c += kThreads) {
    part += static_cast<float>(g_pivot[c]) + s_channels[c].x;
  }
  const double mean = block_sum(part, s_values) / width;
  part = 0.0;
  for (int c = threadIdx.x; c < width; c += kThreads) {
    const double channel_mean = s_channels[c].x;
    const double offset = static_cast<float>(g_pivot[c]) + channel_mean - mean;
    part += s_channels[c].y - channel_mean * channel_mean + offset * offset;
  }
  const double variance = fmax(block_sum(part, s_values) / width, 0.0);
  const double inverse = 1.0 / sqrt(variance + params.eps);
  float* g_factor = g_factors + blockIdx.y * 2 * sizes.channels + first;
  for (int c = threadIdx.x; c < width; c += kThreads) {
    const double factor = params.weight[first + c] * inverse;
    g_factor[c] = static_cast<float>(factor);
    g_factor[sizes.channels + c] = static_cast<float>(params.bias[first + c] - mean * factor);
  }
}

// Computes one output row of one frame with its halo. Grid: frames·output rows, blocks of vectors.
template <typename T, int kWidth, Activation kActivation>
__global__ void __launch_bounds__(kThreads)
    normalise_kernel(const T* g_x, const float* g_factors, Sizes sizes, T* g_out) {
  const int channel = (blockIdx.y * blockDim.x + threadIdx.x) * kWidth;
  if (channel >= sizes.channels) return;
  const int out_rows = sizes.rows + 2 * sizes.halo;
  const int out_columns = sizes.columns + 2 * sizes.halo;
  const std::int64_t frame = blockIdx.x / out_rows;
  const int row = min(max(static_cast<int>(blockIdx.x % out_rows) - sizes.halo, 0), sizes.rows - 1);
  const T* g_row =
      g_x +
      (frame * sizes.num_pixels + static_cast<std::int64_t>(row) * sizes.columns) * sizes.channels +
      channel;
  T* g_out_row =
      g_out + static_cast<std::int64_t>(blockIdx.x) * out_columns * sizes.channels + channel;
  const float* g_factor = g_factors + frame * 2 * sizes.channels + channel;
  float factors[kWidth];
  float offsets[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    factors[i] = g_factor[i];
    offsets[i] = g_factor[sizes.channels + i];
  }
  const auto source = [&](int out_column) {
    const int column = min(max(out_column - sizes.halo, 0), sizes.columns - 1);
    return load_vector<T, kWidth>(g_row + static_cast<std::int64_t>(column) * sizes.channels);
  };
  const auto write = [&](int out_column, ChannelVector<T, kWidth> x) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      x.set(i, activate<T, kActivation>(x[i] * factors[i] + offsets[i]));
    store_vector(g_out_row + static_cast<std::int64_t>(out_column) * sizes.channels, x);
  };
  const int step = blockDim.y;
  int column = threadIdx.y;
  for (; column + (kUnroll - 1) * step < out_columns; column += kUnroll * step) {
    ChannelVector<T, kWidth> x[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) x[i] = source(column + i * step);
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) write(column + i * step, x[i]);
  }
  for (; column < out_columns; column += step) write(column, source(column));
}

// Calls fn.template operator()<activation>().
template <typename Fn>
void dispatch_activation(Activation activation, Fn&& fn) {
  switch (activation) {
    case Activation::kNone:
      return fn.template operator()<Activation::kNone>();
    case Activation::kSilu:
      return fn.template operator()<Activation::kSilu>();
    case Activation::kGeluTanh:
      return fn.template operator()<Activation::kGeluTanh>();
  }
}

Sizes find_sizes(const TensorView& x, const TensorView& out) {
  Sizes sizes{};
  sizes.num_pixels = x.dim(1) * x.dim(2);
  sizes.piece = std::max<std::int64_t>(kPieceElements / x.dim(3), 1);
  sizes.num_pieces = (sizes.num_pixels + sizes.piece - 1) / sizes.piece;
  sizes.columns = static_cast<int>(x.dim(2));
  sizes.rows = static_cast<int>(x.dim(1));
  sizes.channels = static_cast<int>(x.dim(3));
  sizes.halo = static_cast<int>(out.dim(1) - x.dim(1)) / 2;
  return sizes;
}

}  // namespace

void run(Gpu& gpu, const ops::GroupNorm& op) {
  if (op.x.num_elements() == 0) return;
  const Sizes sizes = find_sizes(op.x, op.out);
  const auto num_frames = static_cast<std::size_t>(op.x.dim(0));
  const std::size_t num_sums = num_frames * sizes.num_pieces * 2 * sizes.channels;
  const std::size_t num_factors = num_frames * 2 * sizes.channels;
  auto* g_sums = reinterpret_cast<float*>(gpu.workspace((num_sums + num_factors) * sizeof(float)));
  float* g_factors = g_sums + num_sums;
  const NormParams norm{data_of<const float>(op.weight), data_of<const float>(op.bias),
                        sizes.channels / op.num_groups, op.eps};
  dispatch_vectors(gpu.activation_dtype(), sizes.channels, [&]<typename T, int kWidth>() {
    const T* g_x = data_of<const T>(op.x);
    const dim3 block = block_shape(sizes.channels / kWidth);
    const unsigned num_blocks = (sizes.channels / kWidth + block.x - 1) / block.x;
    const auto frames = static_cast<unsigned>(num_frames);
    sum_kernel<T, kWidth><<<dim3(static_cast<unsigned>(sizes.num_pieces), frames, num_blocks),
                            block, 0, gpu.stream()>>>(g_x, g_sums, sizes);
    fold_kernel<T>
        <<<dim3(static_cast<unsigned>(op.num_groups), frames), kThreads,
           norm.group_width * sizeof(double2), gpu.stream()>>>(g_x, g_sums, norm, sizes, g_factors);
    dispatch_activation(op.activation, [&]<Activation kActivation>() {
      normalise_kernel<T, kWidth, kActivation>
          <<<dim3(frames * static_cast<unsigned>(op.out.dim(1)), num_blocks), block, 0,
             gpu.stream()>>>(g_x, g_factors, sizes, data_of<T>(op.out));
    });
  });
  check_launch("group_norm");
}
template void compute(Gpu&, const ops::GroupNorm&);

}  // namespace mochi::cuda
