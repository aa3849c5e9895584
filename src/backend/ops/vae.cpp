#include "backend/ops/vae.h"

namespace mochi::ops {

void LatentsToChannelsLast::check(const Contract& c) const {
  c.rank("latents", latents, 4);
  c.shape("scale", scale, {latents.dim(0)});
  c.shape("shift", shift, {latents.dim(0)});
  c.shape("out", out, {latents.dim(1), latents.dim(2), latents.dim(3), latents.dim(0)});
}

void ChannelsLastToLatents::check(const Contract& c) const {
  c.rank("x", x, 4);
  c.rank("latents", latents, 4);
  c.shape("scale", scale, {latents.dim(0)});
  c.shape("shift", shift, {latents.dim(0)});
  c.require(x.dim(3) >= latents.dim(0), "x has fewer channels than latents");
  c.shape("latents", latents, {latents.dim(0), x.dim(0), x.dim(1), x.dim(2)});
}

void GroupNorm::check(const Contract& c) const {
  c.rank("x", x, 4);
  c.rank("out", out, 4);
  c.shape("weight", weight, {x.dim(3)});
  c.shape("bias", bias, {x.dim(3)});
  c.require(num_groups > 0 && x.dim(3) % num_groups == 0,
            std::to_string(x.dim(3)) + " channels do not divide into " +
                std::to_string(num_groups) + " groups");
  c.require(halo() == 0 || halo() == 1, "the halo is neither 0 nor 1");
  c.shape("out", out, {x.dim(0), x.dim(1) + 2 * halo(), x.dim(2) + 2 * halo(), x.dim(3)});
}

void Conv3d::check(const Contract& c) const {
  c.rank("x", x, 4);
  c.rank("weight", weight, 5);
  const Shape& kernel = weight.shape();
  c.shape("weight", weight, {kernel[0], x.dim(3), kernel[2], kernel[3], kernel[4]});
  c.optional_shape("bias", bias, {kernel[0]});
  std::array<std::int64_t, 3> size{};
  for (int axis = 0; axis < 3; ++axis) {
    const int step = stride[static_cast<std::size_t>(axis)];
    c.require(step >= 1 && x.dim(axis) >= kernel[2 + axis],
              "x " + x.shape().to_string() + " is smaller than the kernel " + kernel.to_string());
    size[static_cast<std::size_t>(axis)] = (x.dim(axis) - kernel[2 + axis]) / step + 1;
  }
  c.shape("out", out, {size[0], size[1], size[2], kernel[0]});
  c.optional_shape("residual", residual, out.shape());
}

void DepthToSpaceTime::check(const Contract& c) const {
  c.rank("x", x, 4);
  c.rank("out", out, 4);
  c.require(num_dropped_frames >= 0 && num_dropped_frames <= x.dim(0) * temporal,
            "more frames are dropped than exist");
  c.shape("x", x, {x.dim(0), x.dim(1), x.dim(2), out.dim(3) * temporal * spatial * spatial});
  c.shape("out", out,
          {x.dim(0) * temporal - num_dropped_frames, x.dim(1) * spatial, x.dim(2) * spatial,
           out.dim(3)});
}

void FourierFeatures::check(const Contract& c) const {
  c.rank("x", x, 4);
  const auto num_frequencies = static_cast<std::int64_t>(frequencies.size());
  c.shape("out", out, {x.dim(0), x.dim(1), x.dim(2), x.dim(3) * (1 + 2 * num_frequencies)});
}

void TemporalAttention::check(const Contract& c) const {
  c.rank("out", out, 4);
  c.require(head_dim > 0 && out.dim(3) % head_dim == 0,
            std::to_string(out.dim(3)) + " channels do not divide into heads of " +
                std::to_string(head_dim));
  c.shape("qkv", qkv, {out.dim(0), out.dim(1), out.dim(2), 3 * out.dim(3)});
}

void ToRgb8::check(const Contract& c) const { c.shape("out", out, x.shape()); }

}  // namespace mochi::ops
