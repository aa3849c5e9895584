// Operations of the video VAE on single pixels: layout changes at its ends and between its stages.
#include <algorithm>
#include <cmath>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/kernels/channel_vectors.cuh"
#include "backend/cuda/kernels/dispatch.cuh"

namespace mochi {
namespace {

using cuda::ChannelVector;

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
    in[j] = cuda::load_vector<T, kWidth>(g_features + j * kWidth);
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
    if (out_frame >= 0) cuda::store_vector(g_out + out_pixel * sizes.channels + channel, out);
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
  cuda::dispatch_vectors(dtype, sizes.channels, [&]<typename T, int kWidth>() {
    const std::int64_t num_threads =
        sizes.num_frames * sizes.rows * sizes.columns * (sizes.channels / kWidth);
    depth_to_space_time_kernel<T, kParts, kWidth><<<num_blocks(num_threads), kThreads, 0, stream>>>(
        cuda::data_of<const T>(x), cuda::data_of<T>(out), sizes);
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

void CudaBackend::do_latents_to_channels_last(const TensorView& latents, const TensorView& scale,
                                              const TensorView& shift, const TensorView& out) {
  const std::int64_t n = out.num_elements();
  if (n == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    channels_last_kernel<T><<<num_blocks(n), kThreads, 0, stream_>>>(
        cuda::data_of<const float>(latents), cuda::data_of<const float>(scale),
        cuda::data_of<const float>(shift), cuda::data_of<T>(out), n / out.dim(3),
        static_cast<int>(out.dim(3)));
  });
  cuda::check_launch("latents_to_channels_last");
}

void CudaBackend::do_channels_last_to_latents(const TensorView& x, const TensorView& scale,
                                              const TensorView& shift, const TensorView& out) {
  const std::int64_t n = out.num_elements();
  if (n == 0) return;
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    latents_kernel<T><<<num_blocks(n), kThreads, 0, stream_>>>(
        cuda::data_of<const T>(x), cuda::data_of<const float>(scale),
        cuda::data_of<const float>(shift), cuda::data_of<float>(out), n / out.dim(0),
        static_cast<int>(out.dim(0)), static_cast<int>(x.dim(3)));
  });
  cuda::check_launch("channels_last_to_latents");
}

void CudaBackend::do_depth_to_space_time(const TensorView& x, const Upsample& upsample_params,
                                         const TensorView& out) {
  const std::int64_t n = out.num_elements();
  if (n == 0) return;
  const Blocks sizes{.num_frames = x.dim(0),
                     .rows = x.dim(1),
                     .columns = x.dim(2),
                     .channels = static_cast<int>(out.dim(3)),
                     .temporal = upsample_params.temporal,
                     .spatial = upsample_params.spatial,
                     .num_dropped = upsample_params.num_dropped_frames};
  // Mochi's factors: 1, 2 or 3 in time, 2 in space.
  switch (sizes.temporal * sizes.spatial * sizes.spatial) {
    case 4:
      upsample<4>(activation_dtype_, x, out, sizes, stream_);
      break;
    case 8:
      upsample<8>(activation_dtype_, x, out, sizes, stream_);
      break;
    case 12:
      upsample<12>(activation_dtype_, x, out, sizes, stream_);
      break;
    default:
      cuda::dispatch(activation_dtype_, [&]<typename T>() {
        any_depth_to_space_time_kernel<T><<<num_blocks(n), kThreads, 0, stream_>>>(
            cuda::data_of<const T>(x), cuda::data_of<T>(out), sizes, n);
      });
  }
  cuda::check_launch("depth_to_space_time");
}

void CudaBackend::do_fourier_features(const TensorView& x, std::span<const int> frequencies,
                                      const TensorView& out) {
  const std::int64_t n = x.num_elements();
  if (n == 0) return;
  Frequencies factors{};
  if (frequencies.size() > kMaxFrequencies) {
    cuda::fail_cuda(cudaErrorInvalidValue, "fourier_features: more than 16 frequencies");
  }
  for (const int frequency : frequencies) {
    factors.factors[factors.count++] =
        std::ldexp(static_cast<float>(2.0 * 3.14159265358979323846), frequency);
  }
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    cuda::dispatch(x.dtype(), [&]<typename X>() {
      fourier_kernel<X, T><<<num_blocks(n), kThreads, 0, stream_>>>(
          cuda::data_of<const X>(x), cuda::data_of<T>(out), factors, n, static_cast<int>(x.dim(3)));
    });
  });
  cuda::check_launch("fourier_features");
}

void CudaBackend::do_to_rgb8(const TensorView& x, const TensorView& out) {
  const std::int64_t n = x.num_elements();
  if (n == 0) return;
  auto* g_bytes = reinterpret_cast<unsigned char*>(workspace(static_cast<std::size_t>(n)));
  cuda::dispatch(activation_dtype_, [&]<typename T>() {
    const std::int64_t num_threads = (n + kBytesPerThread - 1) / kBytesPerThread;
    rgb8_kernel<T>
        <<<num_blocks(num_threads), kThreads, 0, stream_>>>(cuda::data_of<const T>(x), g_bytes, n);
  });
  cuda::check_launch("to_rgb8");
  cuda::check(cudaMemcpyAsync(out.bytes(), g_bytes, static_cast<std::size_t>(n),
                              cudaMemcpyDeviceToHost, stream_),
              "copying frames from the GPU");
  cuda::check(cudaStreamSynchronize(stream_), "copying frames from the GPU");
}

}  // namespace mochi
