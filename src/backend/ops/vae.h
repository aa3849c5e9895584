// Operations of the video VAE. Tensors are channels-last: [frames, rows, columns, channels].
#pragma once

#include <array>
#include <span>
#include <tuple>

#include "backend/ops/contract.h"
#include "backend/ops/dense.h"

namespace mochi::ops {

// out = latents·scale + shift, in the other layout.
struct LatentsToChannelsLast {
  static constexpr const char* kName = "latents_to_channels_last";
  InF32 latents;       // [channels, T, H, W]
  InF32 scale, shift;  // [channels]
  Out out;             // [T, H, W, channels]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("latents", op.latents);
    f("scale", op.scale);
    f("shift", op.shift);
    f("out", op.out);
  }
};

// out = (x − shift)·scale of the first channels of x, in the other layout.
struct ChannelsLastToLatents {
  static constexpr const char* kName = "channels_last_to_latents";
  In x;                // [T, H, W, ≥ channels]
  InF32 scale, shift;  // [channels]
  OutF32 latents;      // [channels, T, H, W]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("scale", op.scale);
    f("shift", op.shift);
    f("latents", op.latents);
  }
};

// out = act(group_norm(x)). Statistics are per frame and group; the halo repeats the edge.
struct GroupNorm {
  static constexpr const char* kName = "group_norm";
  In x;                // [T, H, W, C]
  InF32 weight, bias;  // [C]
  int num_groups = 32;
  float eps = 1e-5F;
  Activation activation = Activation::kSilu;
  Out out;  // [T, H + 2·halo, W + 2·halo, C] with halo 0 or 1; must not overlap x

  std::int64_t halo() const { return (out.dim(1) - x.dim(1)) / 2; }
  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("weight", op.weight);
    f("bias", op.bias);
    f("num_groups", op.num_groups);
    f("eps", op.eps);
    f("activation", op.activation);
    f("out", op.out);
  }
};

// "Valid" convolution, without padding.
struct Conv3d {
  static constexpr const char* kName = "conv3d";
  In x;                                // [T, H, W, Ci]
  InDenseMatrix weight;                // [Co, Ci, kt, kh, kw]
  OptionalInF32 bias = {};             // [Co]
  OptionalIn residual = {};            // added to out and of its shape; may be out itself
  std::array<int, 3> stride{1, 1, 1};  // frames, rows, columns
  Out out;                             // [(T−kt)/st + 1, …, …, Co]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("weight", op.weight);
    f("bias", op.bias);
    f("residual", op.residual);
    f("stride", op.stride);
    f("out", op.out);
  }
};

// Moves features to frames, rows and columns.
struct DepthToSpaceTime {
  static constexpr const char* kName = "depth_to_space_time";
  In x;                           // [T, H, W, C·temporal·spatial²], features (C, st, sh, sw)
  int temporal = 1, spatial = 1;  // factors; `spatial` applies to rows and columns
  int num_dropped_frames = 0;     // number of leading output frames to leave out
  Out out;                        // [T·temporal − dropped, H·spatial, W·spatial, C]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("temporal", op.temporal);
    f("spatial", op.spatial);
    f("num_dropped_frames", op.num_dropped_frames);
    f("out", op.out);
  }
};

// out = x, then the sines and then the cosines of 2π·2^f·x, with the n frequencies of a channel
// next to each other.
struct FourierFeatures {
  static constexpr const char* kName = "fourier_features";
  // [T, H, W, C] in [−1, 1]; high frequencies need F32
  Operand<Access::kRead, Elements::kF32OrActivation> x;
  std::span<const int> frequencies;  // [n] exponents f, on the host
  Out out;                           // [T, H, W, C·(1 + 2·n)]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("frequencies", op.frequencies);
    f("out", op.out);
  }
};

// Causal attention over frames at every pixel, with L2-normalised q and k and scale head_dim^−½.
struct TemporalAttention {
  static constexpr const char* kName = "temporal_attention";
  In qkv;  // [T, H, W, 3·C] with all frames of the video, ordered (q|k|v, head, head_dim)
  int head_dim;
  Out out;  // [T, H, W, C]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("qkv", op.qkv);
    f("head_dim", op.head_dim);
    f("out", op.out);
  }
};

// out = (x + 1)/2 clamped to [0, 1], as bytes. Waits for the device.
struct ToRgb8 {
  static constexpr const char* kName = "to_rgb8";
  In x;                                                             // [T, H, W, 3]
  Operand<Access::kWrite, Elements::kU8, false, Place::kHost> out;  // [T, H, W, 3]

  void check(const Contract& c) const;
  static void visit(auto& op, const auto& f) {
    f("x", op.x);
    f("out", op.out);
  }
};

using VaeOps = std::tuple<LatentsToChannelsLast, ChannelsLastToLatents, GroupNorm, Conv3d,
                          DepthToSpaceTime, FourierFeatures, TemporalAttention, ToRgb8>;

}  // namespace mochi::ops
