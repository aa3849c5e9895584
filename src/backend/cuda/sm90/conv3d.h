// Convolutions of BF16 channels-last videos on Hopper: implicit matmuls by TMA and wgmma.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace mochi::cuda::sm90 {

struct Conv3dParams {
  const void* g_x;         // [frames, rows, columns, in_channels] bf16, halo included
  const void* g_weight;    // [out_channels, kt·kh·kw, in_channels] bf16
  const float* g_bias;     // [out_channels], or null
  const void* g_residual;  // added to the output, or null; may be g_out
  void* g_out;             // [frames − kt + 1, rows − kh + 1, columns − kw + 1, out_channels] bf16
  std::int64_t frames, rows, columns, in_channels, out_channels;
  int kt, kh, kw;
};

// Returns true if launch_conv3d supports these sizes and alignments.
bool suits_conv3d(const Conv3dParams& conv);

void launch_conv3d(const Conv3dParams& conv, int num_multiprocessors, cudaStream_t stream);

}  // namespace mochi::cuda::sm90
