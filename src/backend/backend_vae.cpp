// The checked front of the op table: the video VAE.
#include "backend/backend.h"
#include "backend/contract.h"

namespace mochi {

void Backend::latents_to_channels_last(const TensorView& latents, const TensorView& scale,
                                       const TensorView& shift, const TensorView& out) {
  const Contract c("latents_to_channels_last", *this);
  c.rank("latents", latents, 4);
  c.f32("latents", latents);
  c.activation("out", out);
  c.vector("scale", scale, latents.dim(0));
  c.vector("shift", shift, latents.dim(0));
  c.shape("out", out, {latents.dim(1), latents.dim(2), latents.dim(3), latents.dim(0)});
  do_latents_to_channels_last(latents, scale, shift, out);
}

void Backend::channels_last_to_latents(const TensorView& x, const TensorView& scale,
                                       const TensorView& shift, const TensorView& out) {
  const Contract c("channels_last_to_latents", *this);
  c.rank("x", x, 4);
  c.rank("out", out, 4);
  c.activation("x", x);
  c.f32("out", out);
  c.vector("scale", scale, out.dim(0));
  c.vector("shift", shift, out.dim(0));
  c.require(x.dim(3) >= out.dim(0), "x has fewer channels than out");
  c.shape("out", out, {out.dim(0), x.dim(0), x.dim(1), x.dim(2)});
  do_channels_last_to_latents(x, scale, shift, out);
}

void Backend::group_norm(const TensorView& x, const GroupNorm& params, const TensorView& out) {
  const Contract c("group_norm", *this);
  c.rank("x", x, 4);
  c.rank("out", out, 4);
  c.activation("x", x);
  c.activation("out", out);
  c.vector("weight", params.weight, x.dim(3));
  c.vector("bias", params.bias, x.dim(3));
  c.require(params.num_groups > 0 && x.dim(3) % params.num_groups == 0,
            std::to_string(x.dim(3)) + " channels do not divide into " +
                std::to_string(params.num_groups) + " groups");
  const std::int64_t halo = (out.dim(1) - x.dim(1)) / 2;
  c.require(halo == 0 || halo == 1, "the halo is neither 0 nor 1");
  c.shape("out", out, {x.dim(0), x.dim(1) + 2 * halo, x.dim(2) + 2 * halo, x.dim(3)});
  do_group_norm(x, params, out);
}

void Backend::conv3d(const TensorView& x, const Conv3d& params, const TensorView& out) {
  const Contract c("conv3d", *this);
  c.rank("x", x, 4);
  c.rank("weight", params.weight, 5);
  c.activation("x", x);
  c.activation("out", out);
  c.matrix("weight", params.weight);
  const Shape& weight = params.weight.shape();
  c.shape("weight", params.weight, {weight[0], x.dim(3), weight[2], weight[3], weight[4]});
  c.optional_vector("bias", params.bias, weight[0]);
  std::array<std::int64_t, 3> size{};
  for (int axis = 0; axis < 3; ++axis) {
    const int stride = params.stride[static_cast<std::size_t>(axis)];
    c.require(stride >= 1 && x.dim(axis) >= weight[2 + axis],
              "x " + x.shape().to_string() + " is smaller than the kernel " + weight.to_string());
    size[static_cast<std::size_t>(axis)] = (x.dim(axis) - weight[2 + axis]) / stride + 1;
  }
  c.shape("out", out, {size[0], size[1], size[2], weight[0]});
  if (params.residual) {
    c.activation("residual", params.residual);
    c.shape("residual", params.residual, out.shape());
  }
  do_conv3d(x, params, out);
}

void Backend::depth_to_space_time(const TensorView& x, const Upsample& upsample,
                                  const TensorView& out) {
  const Contract c("depth_to_space_time", *this);
  c.rank("x", x, 4);
  c.rank("out", out, 4);
  c.activation("x", x);
  c.activation("out", out);
  const std::int64_t st = upsample.temporal;
  const std::int64_t ss = upsample.spatial;
  c.require(upsample.num_dropped_frames >= 0 && upsample.num_dropped_frames <= x.dim(0) * st,
            "more frames are dropped than exist");
  c.shape("x", x, {x.dim(0), x.dim(1), x.dim(2), out.dim(3) * st * ss * ss});
  c.shape("out", out,
          {x.dim(0) * st - upsample.num_dropped_frames, x.dim(1) * ss, x.dim(2) * ss, out.dim(3)});
  do_depth_to_space_time(x, upsample, out);
}

void Backend::fourier_features(const TensorView& x, std::span<const int> frequencies,
                               const TensorView& out) {
  const Contract c("fourier_features", *this);
  c.rank("x", x, 4);
  c.dtype("x", x, x.dtype() == DType::kF32 ? DType::kF32 : activation_dtype());
  c.activation("out", out);
  const auto num_frequencies = static_cast<std::int64_t>(frequencies.size());
  c.shape("out", out, {x.dim(0), x.dim(1), x.dim(2), x.dim(3) * (1 + 2 * num_frequencies)});
  do_fourier_features(x, frequencies, out);
}

void Backend::temporal_attention(const TensorView& qkv, int head_dim, const TensorView& out) {
  const Contract c("temporal_attention", *this);
  c.rank("out", out, 4);
  c.activation("qkv", qkv);
  c.activation("out", out);
  c.require(head_dim > 0 && out.dim(3) % head_dim == 0,
            std::to_string(out.dim(3)) + " channels do not divide into heads of " +
                std::to_string(head_dim));
  c.shape("qkv", qkv, {out.dim(0), out.dim(1), out.dim(2), 3 * out.dim(3)});
  do_temporal_attention(qkv, head_dim, out);
}

void Backend::to_rgb8(const TensorView& x, const TensorView& out) {
  const Contract c("to_rgb8", *this);
  c.activation("x", x);
  c.require(out.dtype() == DType::kU8 && out.device() == Device::kCpu,
            "out is not bytes on the host");
  c.shape("out", out, x.shape());
  do_to_rgb8(x, out);
}

}  // namespace mochi
