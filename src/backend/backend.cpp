// The checked front of the op table, except attention and the video VAE.
#include "backend/backend.h"

#include "backend/contract.h"
#include "base/error.h"

namespace mochi {

void Context::check_stop() const {
  if (should_stop != nullptr && *should_stop && (*should_stop)()) throw Cancelled();
}

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

void Backend::fill_normal(const NormalFill& fill, const TensorView& target) {
  const Contract c("fill_normal", *this);
  if (target.dtype() == DType::kF32) {
    c.f32("target", target);
  } else {
    c.matrix("target", target);
  }
  do_fill_normal(fill, target);
}

void Backend::widen(const MatrixView& matrix, const TensorView& out) {
  const Contract c("widen", *this);
  c.matrix("matrix", matrix);
  c.dtype("out", out, matrix.dtype());
  c.shape("out", out, matrix.shape());
  if (matrix.num_elements() > 0) do_widen(matrix, out);
}

std::byte* Backend::grow(Tensor& memory, std::size_t num_bytes) {
  if (!memory || memory.view().size_bytes() < num_bytes) {
    memory = Tensor();  // freed first, so that the old and the new memory never exist together
    memory = Tensor(DType::kU8, {static_cast<std::int64_t>(num_bytes)}, allocator());
  }
  return memory.view().bytes();
}

TensorView Backend::dense(const MatrixView& matrix) {
  if (matrix.is_dense()) return matrix.values();
  const std::size_t num_bytes = storage_bytes(matrix.dtype(), matrix.num_elements());
  const TensorView out(grow(dense_memory(), num_bytes), matrix.dtype(), matrix.shape(), device());
  widen(matrix, out);
  return out;
}

void Backend::prefetch(int slot, const TensorView& host, const TensorView& target) {
  const Contract c("prefetch", *this);
  c.require(slot >= 0 && slot < kNumPrefetchSlots, "no slot " + std::to_string(slot));
  c.require(host.device() == Device::kCpu, "source is not on the host");
  c.dtype("target", target, host.dtype());
  c.shape("target", target, host.shape());
  do_prefetch(slot, host, target);
}

void Backend::await_prefetch(int slot) {
  const Contract c("await_prefetch", *this);
  c.require(slot >= 0 && slot < kNumPrefetchSlots, "no slot " + std::to_string(slot));
  do_await_prefetch(slot);
}

void Backend::write_back(int slot, const TensorView& source, const TensorView& host) {
  const Contract c("write_back", *this);
  c.require(slot >= 0 && slot < kNumPrefetchSlots, "no slot " + std::to_string(slot));
  c.require(host.device() == Device::kCpu, "target is not on the host");
  c.dtype("source", source, host.dtype());
  c.shape("source", source, host.shape());
  do_write_back(slot, source, host);
}

void Backend::await_write_back(int slot) {
  const Contract c("await_write_back", *this);
  c.require(slot >= 0 && slot < kNumPrefetchSlots, "no slot " + std::to_string(slot));
  do_await_write_back(slot);
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

void Backend::mean_rows(const TensorView& x, const TensorView& out, std::int64_t block_size) {
  const Contract c("mean_rows", *this);
  c.rank("x", x, 2);
  c.activation("x", x);
  c.activation("out", out);
  c.require(block_size >= 0, "block_size is negative");
  const std::int64_t num_blocks = block_size > 0 ? (x.dim(0) + block_size - 1) / block_size : 1;
  c.shape("out", out, {num_blocks, x.dim(1)});
  do_mean_rows(x, out, block_size > 0 ? block_size : x.dim(0));
}

void Backend::transpose(const MatrixView& x, const TensorView& out) {
  const Contract c("transpose", *this);
  c.rank("x", x.shape(), 2);
  c.matrix("x", x);
  c.dtype("out", out, x.dtype());
  c.shape("out", out, {x.dim(1), x.dim(0)});
  do_transpose(dense(x), out);
}

void Backend::linear(const TensorView& x, const MatrixView& weight, const TensorView& bias,
                     const TensorView& out, const LinearOptions& options) {
  const Contract c("linear", *this);
  c.rank("x", x, 2);
  c.rank("weight", weight.shape(), 2);
  c.activation("x", x);
  c.matrix("weight", weight);
  c.activation("out", out);
  c.shape("weight", weight.shape(), {weight.dim(0), x.dim(1)});
  c.optional_vector("bias", bias, weight.dim(0));
  c.shape("out", out, {x.dim(0), weight.dim(0)});
  c.require(!options.accumulate || options.activation == Activation::kNone,
            "an accumulated result has no activation");
  if (x.dim(0) > 0) do_linear(x, dense(weight), bias, out, options);
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

void Backend::gated_linear(const TensorView& x, const MatrixView& weight, Activation activation,
                           Arena& scratch, const TensorView& out) {
  const Contract c("gated_linear", *this);
  c.rank("x", x, 2);
  c.rank("out", out, 2);
  c.activation("x", x);
  c.matrix("weight", weight);
  c.activation("out", out);
  c.shape("weight", weight.shape(), {2 * out.dim(1), x.dim(1)});
  c.shape("out", out, {x.dim(0), out.dim(1)});
  if (x.dim(0) > 0) do_gated_linear(x, dense(weight), activation, scratch, out);
}

void Backend::do_gated_linear(const TensorView& x, const TensorView& weight, Activation activation,
                              Arena& scratch, const TensorView& out) {
  const Arena::Scope scope(scratch);
  const TensorView both = scratch.allocate(activation_dtype(), {x.dim(0), weight.dim(0)});
  linear(x, weight, {}, both);
  gated_activation(both, activation, out);
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

namespace {

void check_patches(const Contract& c, const TensorView& latents, int patch_size,
                   const TensorView& tokens) {
  c.rank("latents", latents, 4);
  c.f32("latents", latents);
  c.activation("tokens", tokens);
  const std::int64_t p = patch_size;
  const std::int64_t rows = latents.dim(2);
  const std::int64_t columns = latents.dim(3);
  c.require(p > 0 && rows % p == 0 && columns % p == 0, "latents " + latents.shape().to_string() +
                                                            " do not divide into patches of " +
                                                            std::to_string(p));
  c.shape("tokens", tokens, {latents.dim(1) * (rows / p) * (columns / p), latents.dim(0) * p * p});
}

}  // namespace

void Backend::patchify(const TensorView& latents, int patch_size, const TensorView& out) {
  check_patches(Contract("patchify", *this), latents, patch_size, out);
  do_patchify(latents, patch_size, out);
}

void Backend::unpatchify(const TensorView& tokens, int patch_size, const TensorView& latents) {
  check_patches(Contract("unpatchify", *this), latents, patch_size, tokens);
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

namespace {

void check_norm_rope(const Contract& c, std::int64_t tokens, const QkNormRope& params,
                     std::int64_t offset, const TensorView& q, const TensorView& k,
                     const TensorView& v) {
  c.rank("q", q, 3);
  const std::int64_t heads = q.dim(0);
  const std::int64_t head_dim = q.dim(2);
  for (const TensorView& target : {q, k, v}) {
    c.activation("q, k or v", target);
    c.shape("q, k or v", target, q.shape());
  }
  c.require(offset >= 0 && offset + tokens <= q.dim(1), "tokens do not fit after the offset");
  c.vector("q_weight", params.q_weight, head_dim);
  c.vector("k_weight", params.k_weight, head_dim);
  c.require(head_dim % 2 == 0, "head_dim is odd");
  c.require(static_cast<bool>(params.cos) == static_cast<bool>(params.sin),
            "cos and sin must both be given or both be empty");
  if (params.cos) {
    for (const TensorView& table : {params.cos, params.sin}) {
      c.f32("rotary table", table);
      c.shape("rotary table", table, {tokens, heads, head_dim / 2});
    }
  }
}

}  // namespace

void Backend::qk_norm_rope(const TensorView& qkv, const QkNormRope& params, std::int64_t offset,
                           const TensorView& q, const TensorView& k, const TensorView& v) {
  const Contract c("qk_norm_rope", *this);
  c.rank("qkv", qkv, 2);
  c.activation("qkv", qkv);
  check_norm_rope(c, qkv.dim(0), params, offset, q, k, v);
  c.shape("qkv", qkv, {qkv.dim(0), 3 * q.dim(0) * q.dim(2)});
  do_qk_norm_rope(qkv, params, offset, q, k, v);
}

void Backend::qkv_linear(const TensorView& x, const MatrixView& weight, const QkNormRope& params,
                         std::int64_t offset, Arena& scratch, const TensorView& q,
                         const TensorView& k, const TensorView& v) {
  const Contract c("qkv_linear", *this);
  c.rank("x", x, 2);
  c.activation("x", x);
  c.matrix("weight", weight);
  check_norm_rope(c, x.dim(0), params, offset, q, k, v);
  c.shape("weight", weight.shape(), {3 * q.dim(0) * q.dim(2), x.dim(1)});
  if (x.dim(0) > 0) do_qkv_linear(x, dense(weight), params, offset, scratch, q, k, v);
}

void Backend::do_qkv_linear(const TensorView& x, const TensorView& weight, const QkNormRope& params,
                            std::int64_t offset, Arena& scratch, const TensorView& q,
                            const TensorView& k, const TensorView& v) {
  const Arena::Scope scope(scratch);
  const TensorView qkv = scratch.allocate(activation_dtype(), {x.dim(0), weight.dim(0)});
  linear(x, weight, {}, qkv);
  qk_norm_rope(qkv, params, offset, q, k, v);
}

void Backend::gated_residual(const TensorView& r, const GatedResidual& params,
                             const TensorView& x) {
  const Contract c("gated_residual", *this);
  c.rank("x", x, 2);
  c.activation("x", x);
  c.activation("r", r);
  c.activation("gate", params.gate);
  c.shape("r", r, x.shape());
  c.shape("gate", params.gate, {x.dim(1)});
  c.optional_vector("bias", params.bias, x.dim(1));
  c.require(static_cast<bool>(params.next_scale) == static_cast<bool>(params.next_out),
            "next_scale and next_out must both be given or both be empty");
  if (params.next_out) {
    c.activation("next_scale", params.next_scale);
    c.activation("next_out", params.next_out);
    c.shape("next_scale", params.next_scale, {x.dim(1)});
    c.shape("next_out", params.next_out, x.shape());
  }
  do_gated_residual(r, params, x);
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

void Backend::weighted_sum(const TensorView& a, float weight_a, const TensorView& b, float weight_b,
                           const TensorView& out) {
  const Contract c("weighted_sum", *this);
  for (const TensorView& tensor : {a, b, out}) {
    c.f32("tensor", tensor);
    c.shape("tensor", tensor, out.shape());
  }
  do_weighted_sum(a, weight_a, b, weight_b, out);
}

void Backend::difference_norms(const TensorView& a, const TensorView& b, Arena& scratch,
                               const TensorView& out) {
  const Contract c("difference_norms", *this);
  for (const TensorView& tensor : {a, b, out}) c.f32("tensor", tensor);
  c.shape("a", a, b.shape());
  c.shape("out", out, {2});
  do_difference_norms(a, b, scratch, out);
}

}  // namespace mochi
