// The checked front of the op table.
#include "backend/backend.h"

#include <string>

#include "base/error.h"

namespace mochi {

namespace {

// Checks the tensors of one call of one operation; every message starts with its name.
class Contract {
 public:
  Contract(const char* op, const Backend& backend) : op_(op), backend_(backend) {}

  void require(bool holds, const std::string& wanted) const {
    if (!holds) throw Error(std::string(op_) + ": " + wanted);
  }
  void shape(const char* name, const TensorView& tensor, const Shape& wanted) const {
    if (tensor.shape() == wanted) return;
    throw Error(std::string(op_) + ": " + name + " is " + tensor.shape().to_string() + ", wanted " +
                wanted.to_string());
  }
  void rank(const char* name, const TensorView& tensor, int wanted) const {
    if (tensor.rank() == wanted) return;
    throw Error(std::string(op_) + ": " + name + " is " + tensor.shape().to_string() +
                ", wanted rank " + std::to_string(wanted));
  }
  void activation(const char* name, const TensorView& tensor) const {
    dtype(name, tensor, backend_.activation_dtype());
  }
  void f32(const char* name, const TensorView& tensor) const { dtype(name, tensor, DType::kF32); }
  void dtype(const char* name, const TensorView& tensor, DType wanted) const {
    on_device(name, tensor);
    if (tensor.dtype() == wanted) return;
    throw Error(std::string(op_) + ": " + name + " is " + dtype_name(tensor.dtype()) + ", wanted " +
                dtype_name(wanted));
  }
  void matrix(const char* name, const TensorView& tensor) const {
    on_device(name, tensor);
    require(tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kBF16,
            std::string(name) + " is " + dtype_name(tensor.dtype()) + ", wanted F32 or BF16");
  }
  void vector(const char* name, const TensorView& tensor, std::int64_t size) const {
    f32(name, tensor);
    shape(name, tensor, {size});
  }
  void optional_vector(const char* name, const TensorView& tensor, std::int64_t size) const {
    if (tensor) vector(name, tensor, size);
  }

 private:
  void on_device(const char* name, const TensorView& tensor) const {
    require(static_cast<bool>(tensor), std::string(name) + " is missing");
    require(tensor.device() == backend_.device(), std::string(name) + " is on another device");
  }
  const char* op_;
  const Backend& backend_;
};

}  // namespace

void Backend::upload(const TensorView& host, const TensorView& target) {
  const Contract c("upload", *this);
  c.require(host.device() == Device::kCpu, "source is not on the host");
  c.dtype("target", target, host.dtype());
  c.shape("target", target, host.shape());
  do_upload(host, target);
}

void Backend::download(const TensorView& source, const TensorView& host) {
  const Contract c("download", *this);
  c.require(host.device() == Device::kCpu, "target is not on the host");
  c.dtype("source", source, host.dtype());
  c.shape("source", source, host.shape());
  do_download(source, host);
}

void Backend::copy(const TensorView& source, const TensorView& target) {
  const Contract c("copy", *this);
  for (const TensorView& tensor : {source, target}) {
    if (tensor.dtype() != DType::kF32) c.activation("tensor", tensor);
  }
  c.require(
      source.num_elements() == target.num_elements(),
      "source is " + source.shape().to_string() + ", target is " + target.shape().to_string());
  do_copy(source, target);
}

void Backend::add(const TensorView& a, const TensorView& b, const TensorView& out) {
  const Contract c("add", *this);
  c.activation("a", a);
  c.activation("b", b);
  c.activation("out", out);
  c.shape("b", b, a.shape());
  c.shape("out", out, a.shape());
  do_add(a, b, out);
}

void Backend::silu(const TensorView& x, const TensorView& out) {
  const Contract c("silu", *this);
  c.activation("x", x);
  c.activation("out", out);
  c.shape("out", out, x.shape());
  do_silu(x, out);
}

void Backend::mean_rows(const TensorView& x, const TensorView& out) {
  const Contract c("mean_rows", *this);
  c.rank("x", x, 2);
  c.activation("x", x);
  c.activation("out", out);
  c.shape("out", out, {1, x.dim(1)});
  do_mean_rows(x, out);
}

void Backend::linear(const TensorView& x, const TensorView& weight, const TensorView& bias,
                     const TensorView& out, const LinearOptions& options) {
  const Contract c("linear", *this);
  c.rank("x", x, 2);
  c.rank("weight", weight, 2);
  c.activation("x", x);
  c.matrix("weight", weight);
  c.activation("out", out);
  c.shape("weight", weight, {weight.dim(0), x.dim(1)});
  c.optional_vector("bias", bias, weight.dim(0));
  c.shape("out", out, {x.dim(0), weight.dim(0)});
  c.require(!options.accumulate || options.activation == Activation::kNone,
            "an accumulated result has no activation");
  if (x.dim(0) > 0) do_linear(x, weight, bias, out, options);
}

void Backend::gated_activation(const TensorView& x, Activation activation, const TensorView& out) {
  const Contract c("gated_activation", *this);
  c.rank("x", x, 2);
  c.rank("out", out, 2);
  c.activation("x", x);
  c.activation("out", out);
  c.shape("x", x, {out.dim(0), 2 * out.dim(1)});
  do_gated_activation(x, activation, out);
}

void Backend::attention(const AttentionInputs& in, const TensorView& out) {
  const Contract c("attention", *this);
  c.rank("q", in.q, 3);
  c.rank("k", in.k, 3);
  c.activation("q", in.q);
  c.activation("k", in.k);
  c.activation("v", in.v);
  c.activation("out", out);
  const std::int64_t heads = in.q.dim(0);
  const std::int64_t num_queries = in.q.dim(1);
  c.shape("k", in.k, {heads, in.k.dim(1), in.q.dim(2)});
  c.shape("v", in.v, in.k.shape());
  c.shape("out", out, {num_queries, heads * in.q.dim(2)});
  c.require(in.k.dim(1) > 0, "there are no keys");
  if (in.bias) {
    c.f32("bias", in.bias);
    c.shape("bias", in.bias, {heads, num_queries, in.k.dim(1)});
  }
  do_attention(in, out);
}

void Backend::embedding(std::span<const std::int32_t> ids, const TensorView& table,
                        const TensorView& out) {
  const Contract c("embedding", *this);
  c.rank("table", table, 2);
  c.matrix("table", table);
  c.activation("out", out);
  c.shape("out", out, {static_cast<std::int64_t>(ids.size()), table.dim(1)});
  for (const std::int32_t id : ids) {
    c.require(id >= 0 && id < table.dim(0), "id " + std::to_string(id) + " is outside a table of " +
                                                std::to_string(table.dim(0)) + " rows");
  }
  do_embedding(ids, table, out);
}

void Backend::rms_norm(const TensorView& x, const TensorView& weight, float eps,
                       const TensorView& out) {
  const Contract c("rms_norm", *this);
  c.rank("x", x, 2);
  c.activation("x", x);
  c.activation("out", out);
  c.shape("out", out, x.shape());
  c.vector("weight", weight, x.dim(1));
  do_rms_norm(x, weight, eps, out);
}

void Backend::split_heads(const TensorView& x, const TensorView& out) {
  const Contract c("split_heads", *this);
  c.rank("out", out, 3);
  c.activation("x", x);
  c.activation("out", out);
  c.shape("x", x, {out.dim(1), out.dim(0) * out.dim(2)});
  do_split_heads(x, out);
}

void Backend::patchify(const TensorView& latents, int patch_size, const TensorView& out) {
  const Contract c("patchify", *this);
  c.rank("latents", latents, 4);
  c.f32("latents", latents);
  c.activation("out", out);
  const std::int64_t p = patch_size;
  const std::int64_t rows = latents.dim(2);
  const std::int64_t columns = latents.dim(3);
  c.require(p > 0 && rows % p == 0 && columns % p == 0, "latents " + latents.shape().to_string() +
                                                            " do not divide into patches of " +
                                                            std::to_string(p));
  c.shape("out", out, {latents.dim(1) * (rows / p) * (columns / p), latents.dim(0) * p * p});
  do_patchify(latents, patch_size, out);
}

void Backend::unpatchify(const TensorView& tokens, int patch_size, const TensorView& latents) {
  const Contract c("unpatchify", *this);
  c.rank("latents", latents, 4);
  c.f32("latents", latents);
  c.activation("tokens", tokens);
  const std::int64_t p = patch_size;
  const std::int64_t rows = latents.dim(2);
  const std::int64_t columns = latents.dim(3);
  c.require(p > 0 && rows % p == 0 && columns % p == 0, "latents " + latents.shape().to_string() +
                                                            " do not divide into patches of " +
                                                            std::to_string(p));
  c.shape("tokens", tokens, {latents.dim(1) * (rows / p) * (columns / p), p * p * latents.dim(0)});
  do_unpatchify(tokens, patch_size, latents);
}

void Backend::norm_modulate(const TensorView& x, const TensorView& scale, float eps,
                            const TensorView& out) {
  const Contract c("norm_modulate", *this);
  c.rank("x", x, 2);
  c.activation("x", x);
  c.activation("out", out);
  c.activation("scale", scale);
  c.shape("scale", scale, {x.dim(1)});
  c.shape("out", out, x.shape());
  do_norm_modulate(x, scale, eps, out);
}

void Backend::layer_norm_modulate(const TensorView& x, const TensorView& shift,
                                  const TensorView& scale, float eps, const TensorView& out) {
  const Contract c("layer_norm_modulate", *this);
  c.rank("x", x, 2);
  c.activation("x", x);
  c.activation("out", out);
  c.activation("shift", shift);
  c.activation("scale", scale);
  c.shape("shift", shift, {x.dim(1)});
  c.shape("scale", scale, {x.dim(1)});
  c.shape("out", out, x.shape());
  do_layer_norm_modulate(x, shift, scale, eps, out);
}

void Backend::qk_norm_rope(const TensorView& qkv, const QkNormRope& params, std::int64_t offset,
                           const TensorView& q, const TensorView& k, const TensorView& v) {
  const Contract c("qk_norm_rope", *this);
  c.rank("q", q, 3);
  c.rank("qkv", qkv, 2);
  c.activation("qkv", qkv);
  const std::int64_t heads = q.dim(0);
  const std::int64_t head_dim = q.dim(2);
  c.shape("qkv", qkv, {qkv.dim(0), 3 * heads * head_dim});
  for (const TensorView& target : {q, k, v}) {
    c.activation("q, k or v", target);
    c.shape("q, k or v", target, q.shape());
  }
  c.require(offset >= 0 && offset + qkv.dim(0) <= q.dim(1), "tokens do not fit behind the offset");
  c.vector("q_weight", params.q_weight, head_dim);
  c.vector("k_weight", params.k_weight, head_dim);
  c.require(head_dim % 2 == 0, "head_dim is odd");
  c.require(static_cast<bool>(params.cos) == static_cast<bool>(params.sin),
            "cos and sin come together");
  if (params.cos) {
    for (const TensorView& table : {params.cos, params.sin}) {
      c.f32("rotary table", table);
      c.shape("rotary table", table, {qkv.dim(0), heads, head_dim / 2});
    }
  }
  do_qk_norm_rope(qkv, params, offset, q, k, v);
}

void Backend::gated_residual(const TensorView& r, const TensorView& gate, float eps,
                             const TensorView& x) {
  const Contract c("gated_residual", *this);
  c.rank("x", x, 2);
  c.activation("x", x);
  c.activation("r", r);
  c.activation("gate", gate);
  c.shape("r", r, x.shape());
  c.shape("gate", gate, {x.dim(1)});
  do_gated_residual(r, gate, eps, x);
}

void Backend::guided_euler(const TensorView& v_cond, const TensorView& v_null, float cfg,
                           float dsigma, const TensorView& z) {
  const Contract c("guided_euler", *this);
  for (const TensorView& tensor : {v_cond, v_null, z}) {
    c.f32("tensor", tensor);
    c.shape("tensor", tensor, z.shape());
  }
  do_guided_euler(v_cond, v_null, cfg, dsigma, z);
}

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
            "more frames dropped than there are");
  c.shape("x", x, {x.dim(0), x.dim(1), x.dim(2), out.dim(3) * st * ss * ss});
  c.shape("out", out,
          {x.dim(0) * st - upsample.num_dropped_frames, x.dim(1) * ss, x.dim(2) * ss, out.dim(3)});
  do_depth_to_space_time(x, upsample, out);
}

void Backend::fourier_features(const TensorView& x, std::span<const int> frequencies,
                               const TensorView& out) {
  const Contract c("fourier_features", *this);
  c.rank("x", x, 4);
  c.activation("x", x);
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
