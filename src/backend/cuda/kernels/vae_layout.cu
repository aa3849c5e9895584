// Operations of the video VAE on single pixels: layout changes at its ends and between its stages.
#include <algorithm>
#include <cmath>

#include "backend/cuda/common/dispatch.cuh"
#include "backend/cuda/implement.h"
#include "backend/cuda/kernels/channel_vectors.cuh"

namespace mochi::cuda {
namespace {

constexpr int kThreads = 256;

unsigned num_blocks(std::int64_t num_threads) {
  return static_cast<unsigned>((num_threads + kThreads - 1) / kThreads);
}

__device__ std::int64_t thread_idx() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

// g_out [pixels, channels] = g_latents [channels, pixels]·scale + shift.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    channels_last_kernel(const float* g_latents, const float* g_scale, const float* g_shift,
                         T* g_out, std::int64_t num_pixels, int channels) {
  const std::int64_t i = thread_idx();
  if (i >= num_pixels * channels) return;
  const std::int64_t pixel = i / channels;
  const int c = static_cast<int>(i % channels);
  g_out[i] = static_cast<T>(g_latents[c * num_pixels + pixel] * g_scale[c] + g_shift[c]);
}

// g_out [channels, pixels] = (g_x [pixels, in_channels] − shift)·scale.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    latents_kernel(const T* g_x, const float* g_scale, const float* g_shift, float* g_out,
                   std::int64_t num_pixels, int channels, int in_channels) {
  const std::int64_t i = thread_idx();
  if (i >= num_pixels * channels) return;
  const int c = static_cast<int>(i / num_pixels);
  const std::int64_t pixel = i % num_pixels;
  g_out[i] = (static_cast<float>(g_x[pixel * in_channels + c]) - g_shift[c]) * g_scale[c];
}

struct Blocks {                            // sizes of an upsampling
  std::int64_t num_frames, rows, columns;  // sizes of the input
  int channels;                            // channels of the output
  int temporal, spatial, num_dropped;
};

// Computes kWidth output channels of all kParts pixels that one input pixel becomes. The features
// of an input pixel are (channel, part), so this is a small transpose in registers.
template <typename T, int kParts, int kWidth>
__global__ void __launch_bounds__(kThreads)
    depth_to_space_time_kernel(const T* g_x, T* g_out, Blocks sizes) {
  const int num_vectors = sizes.channels / kWidth;
  const std::int64_t i = thread_idx();
  if (i >= sizes.num_frames * sizes.rows * sizes.columns * num_vectors) return;
  const std::int64_t pixel = i / num_vectors;
  const int channel = static_cast<int>(i % num_vectors) * kWidth;
  const std::int64_t column = pixel % sizes.columns;
  const std::int64_t row = pixel / sizes.columns % sizes.rows;
  const std::int64_t frame = pixel / sizes.columns / sizes.rows;
  const T* g_features = g_x + (pixel * sizes.channels + channel) * kParts;
  ChannelVector<T, kWidth> in[kParts];
#pragma unroll
  for (int j = 0; j < kParts; ++j) {
    in[j] = load_vector<T, kWidth>(g_features + j * kWidth);
  }
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    ChannelVector<T, kWidth> out;
#pragma unroll
    for (int c = 0; c < kWidth; ++c) {
      out.elements[c] = in[(c * kParts + part) / kWidth].elements[(c * kParts + part) % kWidth];
    }
    const int spatial = sizes.spatial;
    const std::int64_t out_frame =
        frame * sizes.temporal + part / (spatial * spatial) - sizes.num_dropped;
    const std::int64_t out_row = row * spatial + part / spatial % spatial;
    const std::int64_t out_column = column * spatial + part % spatial;
    const std::int64_t out_pixel =
        (out_frame * sizes.rows * spatial + out_row) * sizes.columns * spatial + out_column;
    if (out_frame >= 0) store_vector(g_out + out_pixel * sizes.channels + channel, out);
  }
}

// Computes one element of the output, for any factors.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    any_depth_to_space_time_kernel(const T* g_x, T* g_out, Blocks sizes, std::int64_t n) {
  const std::int64_t i = thread_idx();
  if (i >= n) return;
  const int spatial = sizes.spatial;
  const std::int64_t num_columns = sizes.columns * spatial;
  const std::int64_t num_rows = sizes.rows * spatial;
  const std::int64_t channel = i % sizes.channels;
  const std::int64_t column = i / sizes.channels % num_columns;
  const std::int64_t row = i / sizes.channels / num_columns % num_rows;
  const std::int64_t frame = i / sizes.channels / num_columns / num_rows + sizes.num_dropped;
  const std::int64_t part =
      (frame % sizes.temporal * spatial + row % spatial) * spatial + column % spatial;
  const std::int64_t pixel =
      (frame / sizes.temporal * sizes.rows + row / spatial) * sizes.columns + column / spatial;
  const int num_parts = sizes.temporal * spatial * spatial;
  g_out[i] = g_x[(pixel * sizes.channels + channel) * num_parts + part];
}

template <int kParts>
void upsample(DType dtype, const TensorView& x, const TensorView& out, const Blocks& sizes,
              cudaStream_t stream) {
  dispatch_vectors(dtype, sizes.channels, [&]<typename T, int kWidth>() {
    const std::int64_t num_threads =
        sizes.num_frames * sizes.rows * sizes.columns * (sizes.channels / kWidth);
    depth_to_space_time_kernel<T, kParts, kWidth><<<num_blocks(num_threads), kThreads, 0, stream>>>(
        data_of<const T>(x), data_of<T>(out), sizes);
  });
}

constexpr int kMaxFrequencies = 16;

struct Frequencies {
  float factors[kMaxFrequencies];  // 2π·2^f
  int count;
};

// Writes one channel of one pixel: the value, its sines and its cosines.
template <typename X, typename T>
__global__ void __launch_bounds__(kThreads)
    fourier_kernel(const X* g_x, T* g_out, Frequencies frequencies, std::int64_t n, int channels) {
  const std::int64_t i = thread_idx();
  if (i >= n) return;
  const int c = static_cast<int>(i % channels);
  const float x = static_cast<float>(g_x[i]);
  T* g_pixel = g_out + i / channels * channels * (1 + 2 * frequencies.count);
  T* g_sines = g_pixel + channels + c * frequencies.count;
  T* g_cosines = g_sines + channels * frequencies.count;
  g_pixel[c] = static_cast<T>(x);
  for (int f = 0; f < frequencies.count; ++f) {
    float sine = 0.0F;
    float cosine = 0.0F;
    sincosf(frequencies.factors[f] * x, &sine, &cosine);
    g_sines[f] = static_cast<T>(sine);
    g_cosines[f] = static_cast<T>(cosine);
  }
}

constexpr int kBytesPerThread = 4;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    rgb8_kernel(const T* g_x, unsigned char* g_out, std::int64_t n) {
  const std::int64_t begin = thread_idx() * kBytesPerThread;
#pragma unroll
  for (int i = 0; i < kBytesPerThread; ++i) {
    if (begin + i >= n) return;
    const float x = static_cast<float>(g_x[begin + i]);
    const float clamped = fminf(fmaxf(0.0F, (x + 1.0F) * 0.5F), 1.0F);  // NaN becomes 0
    g_out[begin + i] = static_cast<unsigned char>(clamped * 255.0F + 0.5F);
  }
}

}  // namespace

void run(Gpu& gpu, const ops::LatentsToChannelsLast& op) {
  const std::int64_t n = op.out.num_elements();
  if (n == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    channels_last_kernel<T><<<num_blocks(n), kThreads, 0, gpu.stream()>>>(
        data_of<const float>(op.latents), data_of<const float>(op.scale),
        data_of<const float>(op.shift), data_of<T>(op.out), n / op.out.dim(3),
        static_cast<int>(op.out.dim(3)));
  });
  check_launch("latents_to_channels_last");
}
template void compute(Gpu&, const ops::LatentsToChannelsLast&);

void run(Gpu& gpu, const ops::ChannelsLastToLatents& op) {
  const std::int64_t n = op.latents.num_elements();
  if (n == 0) return;
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    latents_kernel<T><<<num_blocks(n), kThreads, 0, gpu.stream()>>>(
        data_of<const T>(op.x), data_of<const float>(op.scale), data_of<const float>(op.shift),
        data_of<float>(op.latents), n / op.latents.dim(0), static_cast<int>(op.latents.dim(0)),
        static_cast<int>(op.x.dim(3)));
  });
  check_launch("channels_last_to_latents");
}
template void compute(Gpu&, const ops::ChannelsLastToLatents&);

void run(Gpu& gpu, const ops::DepthToSpaceTime& op) {
  const std::int64_t n = op.out.num_elements();
  if (n == 0) return;
  const Blocks sizes{.num_frames = op.x.dim(0),
                     .rows = op.x.dim(1),
                     .columns = op.x.dim(2),
                     .channels = static_cast<int>(op.out.dim(3)),
                     .temporal = op.temporal,
                     .spatial = op.spatial,
                     .num_dropped = op.num_dropped_frames};
  // Mochi's factors: 1, 2 or 3 in time, 2 in space.
  switch (sizes.temporal * sizes.spatial * sizes.spatial) {
    case 4:
      upsample<4>(gpu.activation_dtype(), op.x, op.out, sizes, gpu.stream());
      break;
    case 8:
      upsample<8>(gpu.activation_dtype(), op.x, op.out, sizes, gpu.stream());
      break;
    case 12:
      upsample<12>(gpu.activation_dtype(), op.x, op.out, sizes, gpu.stream());
      break;
    default:
      dispatch(gpu.activation_dtype(), [&]<typename T>() {
        any_depth_to_space_time_kernel<T><<<num_blocks(n), kThreads, 0, gpu.stream()>>>(
            data_of<const T>(op.x), data_of<T>(op.out), sizes, n);
      });
  }
  check_launch("depth_to_space_time");
}
template void compute(Gpu&, const ops::DepthToSpaceTime&);

void run(Gpu& gpu, const ops::FourierFeatures& op) {
  const std::int64_t n = op.x.num_elements();
  if (n == 0) return;
  Frequencies factors{};
  if (op.frequencies.size() > kMaxFrequencies) {
    fail_cuda(cudaErrorInvalidValue, "fourier_features: more than 16 op.frequencies");
  }
  for (const int frequency : op.frequencies) {
    factors.factors[factors.count++] =
        std::ldexp(static_cast<float>(2.0 * 3.14159265358979323846), frequency);
  }
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    dispatch(op.x.dtype(), [&]<typename X>() {
      fourier_kernel<X, T><<<num_blocks(n), kThreads, 0, gpu.stream()>>>(
          data_of<const X>(op.x), data_of<T>(op.out), factors, n, static_cast<int>(op.x.dim(3)));
    });
  });
  check_launch("fourier_features");
}
template void compute(Gpu&, const ops::FourierFeatures&);

void run(Gpu& gpu, const ops::ToRgb8& op) {
  const std::int64_t n = op.x.num_elements();
  if (n == 0) return;
  auto* g_bytes = reinterpret_cast<unsigned char*>(gpu.workspace(static_cast<std::size_t>(n)));
  dispatch(gpu.activation_dtype(), [&]<typename T>() {
    const std::int64_t num_threads = (n + kBytesPerThread - 1) / kBytesPerThread;
    rgb8_kernel<T><<<num_blocks(num_threads), kThreads, 0, gpu.stream()>>>(data_of<const T>(op.x),
                                                                           g_bytes, n);
  });
  check_launch("to_rgb8");
  check(cudaMemcpyAsync(op.out.bytes(), g_bytes, static_cast<std::size_t>(n),
                        cudaMemcpyDeviceToHost, gpu.stream()),
        "copying frames from the GPU");
  check(cudaStreamSynchronize(gpu.stream()), "copying frames from the GPU");
}
template void compute(Gpu&, const ops::ToRgb8&);

}  // namespace mochi::cuda
