// The op table: everything the model computes, as coarse operations that mean something to it.
// Each operation's contract stands here once and is checked once, in the non-virtual front
// (backend.cpp, backend_vae.cpp); a backend implements the private virtual half and may assume it.
//
// Unless an operation says otherwise: tensors are contiguous and on this backend's device;
// activations have dtype activation_dtype(); "matrix" weights are F32 or BF16 on the CPU and of the
// activation dtype on a GPU, "vector" weights (biases, norm weights) and tables are F32; sums are
// accumulated in fp32; inputs and outputs do not overlap. A violated contract throws Error naming
// the operation and the shapes.
//
// A GPU computes in the order of the calls but later than they return; download(), to_rgb8() and
// synchronize() wait. Memory may be freed at once: freeing waits, too.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "backend/op_parameters.h"
#include "base/error.h"
#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace mochi {

// How a backend likes the work on a video cut: more at a time costs memory, and keeps a GPU busy;
// on a CPU it is no faster.
struct VideoPieces {
  std::int64_t latent_frames = 1;                       // decoded at a time
  std::int64_t slice_elements = std::int64_t{1} << 23;  // of each scratch tensor in a block
};

// A GPU's memory; of the CPU nothing is said here.
struct DeviceMemory {
  std::uint64_t used_bytes = 0;       // by this backend's tensors
  std::uint64_t peak_bytes = 0;       // most that it ever was, or since restart_peak()
  std::uint64_t available_bytes = 0;  // more than that can be had, within the limit
};

// Brings stored weights to a device, in an order of its own. Not for two threads at once.
class WeightLoader {
 public:
  virtual ~WeightLoader() = default;
  // target, F32 or BF16 on the device, = stored floats of any dtype and alignment, which may be
  // gone on return.
  virtual void load(DType stored, std::span<const std::byte> bytes, const TensorView& target) = 0;
  // Waits until all targets are filled. Throws Error when that failed.
  virtual void finish() = 0;
};

// Operations that were asked for once and can be asked for again, at once.
class Recording {
 public:
  virtual ~Recording() = default;
  // The same operations on the same memory. False, and nothing is done, when memory of the
  // backend's own has moved since: record anew.
  virtual bool replay() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual Device device() const = 0;
  virtual Allocator& allocator() = 0;
  virtual DType activation_dtype() const = 0;
  // Matrix weights of this dtype, F32 or BF16, make the fastest products here.
  virtual DType preferred_matrix_dtype() const = 0;
  virtual VideoPieces preferred_video_pieces() const { return {}; }

  virtual std::string device_name() const = 0;  // "CPU", or the GPU's name
  virtual DeviceMemory memory() const { return {}; }
  virtual void restart_peak() {}
  // Host memory from which copies to the device are fastest.
  virtual Allocator& staging_allocator() { return host_allocator(); }
  // Null where weights are best read into place by the host.
  virtual std::unique_ptr<WeightLoader> make_weight_loader() { return nullptr; }

  // Waits until everything asked for so far is computed. Throws Error when that failed.
  void synchronize() { do_synchronize(); }

  // Does what `fn` asks for and keeps it. fn must not take memory, upload, download or wait; having
  // run once before, it finds all memory there. What it brings or takes back beside its work, it
  // awaits. Null: nothing would be gained, call fn each time.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& fn) {
    fn();
    return nullptr;
  }

  // Host → device and back; same dtype and size. The host memory may be reused on return.
  void upload(const TensorView& host, const TensorView& target);
  void download(const TensorView& source, const TensorView& host);

  // ---- weights ----
  // target (F32, or a matrix) = mean + deviation·fill_normal(kMochi, seed): equal everywhere.
  void fill_normal(const NormalFill& fill, const TensorView& target);
  // Device memory target = host memory of the same dtype and size, in the background: after all
  // that was asked for so far, beside what is asked for next. The host memory must stay until
  // await_prefetch(slot), behind which the target may be used. Slots: 0 to kNumPrefetchSlots − 1.
  void prefetch(int slot, const TensorView& host, const TensorView& target);
  void await_prefetch(int slot);
  // The way back: host = device memory `source` of the same dtype and size, in the background. The
  // source must stay as it is until await_write_back(slot), behind which it may be overwritten; the
  // host sees the values once synchronize() was called behind that.
  void write_back(int slot, const TensorView& source, const TensorView& host);
  void await_write_back(int slot);
  static constexpr int kNumPrefetchSlots = 8;  // and as many to write back

  // ---- any model ----
  // target = source; same size, dtypes F32 or activation (converted).
  void copy(const TensorView& source, const TensorView& target);
  void add(const TensorView& a, const TensorView& b, const TensorView& out);  // may alias
  void silu(const TensorView& x, const TensorView& out);                      // may alias
  // out [⌈rows / block_size⌉, width] = means over blocks of rows of x [rows, width]; with
  // block_size 0 out [1, width] = mean over all of them, zero when there are none.
  void mean_rows(const TensorView& x, const TensorView& out, std::int64_t block_size = 0);
  // out [columns, rows] = x [rows, columns], a matrix weight.
  void transpose(const TensorView& x, const TensorView& out);
  // out [rows, n] = act(x [rows, k] · weight [n, k]ᵀ + bias [n] (may be empty)).
  void linear(const TensorView& x, const TensorView& weight, const TensorView& bias,
              const TensorView& out, const LinearOptions& options = {});
  // out [rows, f] = act(a)·b with x [rows, 2·f] = (a | b).
  void gated_activation(const TensorView& x, Activation activation, const TensorView& out);
  // out [rows, f] = act(a)·b with (a | b) = x [rows, k] · weight [2·f, k]ᵀ; where that takes two
  // steps, (a | b) lies in the scratch.
  void gated_linear(const TensorView& x, const TensorView& weight, Activation activation,
                    Arena& scratch, const TensorView& out);
  // out = softmax(q·kᵀ·scale + bias)·v; num_keys ≥ 1. Of q, k and v each may be columns of a
  // matrix.
  void attention(const AttentionInputs& in, const AttentionOutputs& to);

  // ---- text encoder ----
  // out [n, width] = rows `ids` of table [vocabulary, width]; each id must be in range.
  void embedding(std::span<const std::int32_t> ids, const TensorView& table, const TensorView& out);
  // out = x / rms(x) · weight, per row of [rows, width].
  void rms_norm(const TensorView& x, const TensorView& weight, float eps, const TensorView& out);

  // ---- diffusion transformer ----
  // latents [channels, T, H, W] f32 → tokens [T·H/p·W/p, channels·p·p]; token order (t, h, w),
  // features (channel, row, column), as a convolution weight [D, channels, p, p] wants them.
  void patchify(const TensorView& latents, int patch_size, const TensorView& out);
  // tokens [T·H/p·W/p, p·p·channels], features (row, column, channel) → latents f32.
  void unpatchify(const TensorView& tokens, int patch_size, const TensorView& latents);
  // out = x / rms(x) · (1 + scale [width]), per row.
  void norm_modulate(const TensorView& x, const TensorView& scale, float eps,
                     const TensorView& out);
  // out = layer_norm(x) · (1 + scale [width]) + shift [width], per row.
  void layer_norm_modulate(const TensorView& x, const TensorView& shift, const TensorView& scale,
                           float eps, const TensorView& out);
  // qkv [tokens, 3·heads·head_dim] as (q|k|v, head, head_dim): q and k get RMS norm with weight,
  // then rotation of (even, odd) pairs; written to rows [offset, offset + tokens) of
  // q, k, v [heads, total, head_dim].
  void qk_norm_rope(const TensorView& qkv, const QkNormRope& params, std::int64_t offset,
                    const TensorView& q, const TensorView& k, const TensorView& v);
  // qk_norm_rope() of x [tokens, k] · weight [3·heads·head_dim, k]ᵀ; where that takes two steps,
  // the product lies in the scratch.
  void qkv_linear(const TensorView& x, const TensorView& weight, const QkNormRope& params,
                  std::int64_t offset, Arena& scratch, const TensorView& q, const TensorView& k,
                  const TensorView& v);
  // x += r̂ / rms(r̂) · tanh(gate), per row of [rows, width], with r̂ = r + bias; then
  // next_out = x / rms(x) · (1 + next_scale).
  void gated_residual(const TensorView& r, const GatedResidual& params, const TensorView& x);

  // ---- sparsity; without bias ----
  // attention(), and how much each column weighs for each query group.
  void attention_with_column_sums(const AttentionInputs& in, const ColumnSums& scores,
                                  const AttentionOutputs& to);
  // attention() of every query group over its own columns, plus the delta; lse is of the columns.
  // q, k and v are tensors of their own.
  void column_sparse_attention(const AttentionInputs& in, const ColumnLists& columns,
                               const AttentionDelta& delta, const AttentionOutputs& to);
  // Fills delta's cache and weight so that applying it to `sparse` gives `dense`; both with lse
  // where the delta has a weight. Of an F8_E4M3 cache the largest value of each query and head
  // becomes ±448 times the scale; zeros have the scale 0.
  void find_delta(const AttentionOutputs& dense, const AttentionOutputs& sparse,
                  const AttentionDelta& delta);
  // The plan of every head and group, and the offsets of its lists; all lists together hold fewer
  // than 2^31 columns.
  void select_columns(const ColumnChoice& choice, const TensorView& plan,
                      const TensorView& offsets);
  // A plan as lists; columns.offsets are given, columns.columns is filled.
  void expand_columns(const TensorView& plan, const ColumnLists& columns);
  // Scores [1, blocks, hidden] f32 of hidden columns: |Δa| + |Δb| between two means of MlpCache.
  void find_movement(const TensorView& means, const TensorView& former, const TensorView& scores);
  // Brings the listed hidden columns (one list per block of tokens, perhaps of none) of `cache` to
  // x [tokens, width]: their activations and means are computed anew, and what that changes is
  // added to the output. w1 [2·hidden, width] and w2_rows [hidden, width], the transpose of w2, are
  // matrix weights. Products are of f32: unlike linear() this rounds no input to BF16.
  void column_sparse_mlp(const TensorView& x, const TensorView& w1, const TensorView& w2_rows,
                         const ColumnLists& columns, const MlpCache& cache);
  // out [n, width] = rows `indices` [n] i32 of x [rows, width]; indices in range.
  void gather_rows(const TensorView& x, const TensorView& indices, const TensorView& out);

  // ---- sampler (all F32) ----
  // z += dsigma · (v_null + cfg · (v_cond − v_null)).
  void guided_euler(const TensorView& v_cond, const TensorView& v_null, float cfg, float dsigma,
                    const TensorView& z);

  // ---- video VAE; tensors are channels-last: [frames, rows, columns, channels] ----
  // latents [channels, T, H, W] f32 → out [T, H, W, channels] = latents·scale + shift [channels].
  void latents_to_channels_last(const TensorView& latents, const TensorView& scale,
                                const TensorView& shift, const TensorView& out);
  // The inverse layout change: out [channels, T, H, W] f32 = (x − shift)·scale, from the first
  // `channels` of x [T, H, W, ≥ channels].
  void channels_last_to_latents(const TensorView& x, const TensorView& scale,
                                const TensorView& shift, const TensorView& out);
  // out [T, H + 2·halo, W + 2·halo, C], halo 0 or 1: act(group_norm(x [T, H, W, C])), statistics
  // per frame and group; the halo repeats the edge. out may not alias x.
  void group_norm(const TensorView& x, const GroupNorm& params, const TensorView& out);
  // "Valid" convolution, no padding: x [T, H, W, Ci] → out [(T−kt)/st + 1, …, …, Co].
  void conv3d(const TensorView& x, const Conv3d& params, const TensorView& out);
  // x [T, H, W, C·temporal·spatial²], features (C, st, sh, sw) →
  // out [T·temporal − dropped, H·spatial, W·spatial, C].
  void depth_to_space_time(const TensorView& x, const Upsample& upsample, const TensorView& out);
  // x [T, H, W, C] in [−1, 1], F32 or activation → out [T, H, W, C·(1 + 2·n)]: x, then sin and then
  // cos of 2π·2^f·x; per channel the n frequencies are neighbours. High frequencies want F32.
  void fourier_features(const TensorView& x, std::span<const int> frequencies,
                        const TensorView& out);
  // Causal attention over frames at every pixel: qkv [T, H, W, 3·C] as (q|k|v, head, head_dim),
  // q and k L2-normalised, scale head_dim^−½, out [T, H, W, C]. The caller gives all T frames.
  void temporal_attention(const TensorView& qkv, int head_dim, const TensorView& out);
  // (x + 1)/2 clamped to [0, 1], as bytes: x [T, H, W, 3] → out u8 on the host.
  void to_rgb8(const TensorView& x, const TensorView& out);

 protected:
  // In two steps, for a backend that has no better way or not always.
  virtual void do_gated_linear(const TensorView& x, const TensorView& weight, Activation activation,
                               Arena& scratch, const TensorView& out);
  virtual void do_qkv_linear(const TensorView& x, const TensorView& weight,
                             const QkNormRope& params, std::int64_t offset, Arena& scratch,
                             const TensorView& q, const TensorView& k, const TensorView& v);

 private:
  virtual void do_synchronize() {}
  virtual void do_upload(const TensorView& host, const TensorView& target) = 0;
  virtual void do_download(const TensorView& source, const TensorView& host) = 0;
  virtual void do_fill_normal(const NormalFill& fill, const TensorView& target) = 0;
  virtual void do_prefetch(int slot, const TensorView& host, const TensorView& target) = 0;
  virtual void do_await_prefetch(int slot) = 0;
  virtual void do_write_back(int slot, const TensorView& source, const TensorView& host) = 0;
  virtual void do_await_write_back(int slot) = 0;
  virtual void do_copy(const TensorView& source, const TensorView& target) = 0;
  virtual void do_add(const TensorView& a, const TensorView& b, const TensorView& out) = 0;
  virtual void do_silu(const TensorView& x, const TensorView& out) = 0;
  virtual void do_mean_rows(const TensorView& x, const TensorView& out,
                            std::int64_t block_size) = 0;
  virtual void do_transpose(const TensorView& x, const TensorView& out) = 0;
  virtual void do_linear(const TensorView& x, const TensorView& weight, const TensorView& bias,
                         const TensorView& out, const LinearOptions& options) = 0;
  virtual void do_gated_activation(const TensorView& x, Activation activation,
                                   const TensorView& out) = 0;
  virtual void do_attention(const AttentionInputs& in, const AttentionOutputs& to) = 0;
  virtual void do_embedding(std::span<const std::int32_t> ids, const TensorView& table,
                            const TensorView& out) = 0;
  virtual void do_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                           const TensorView& out) = 0;
  virtual void do_patchify(const TensorView& latents, int patch_size, const TensorView& out) = 0;
  virtual void do_unpatchify(const TensorView& tokens, int patch_size,
                             const TensorView& latents) = 0;
  virtual void do_norm_modulate(const TensorView& x, const TensorView& scale, float eps,
                                const TensorView& out) = 0;
  virtual void do_layer_norm_modulate(const TensorView& x, const TensorView& shift,
                                      const TensorView& scale, float eps,
                                      const TensorView& out) = 0;
  virtual void do_qk_norm_rope(const TensorView& qkv, const QkNormRope& params, std::int64_t offset,
                               const TensorView& q, const TensorView& k, const TensorView& v) = 0;
  virtual void do_gated_residual(const TensorView& r, const GatedResidual& params,
                                 const TensorView& x) = 0;
  virtual void do_attention_with_column_sums(const AttentionInputs& in, const ColumnSums& scores,
                                             const AttentionOutputs& to) = 0;
  virtual void do_column_sparse_attention(const AttentionInputs& in, const ColumnLists& columns,
                                          const AttentionDelta& delta,
                                          const AttentionOutputs& to) = 0;
  virtual void do_find_delta(const AttentionOutputs& dense, const AttentionOutputs& sparse,
                             const AttentionDelta& delta) = 0;
  virtual void do_select_columns(const ColumnChoice& choice, const TensorView& plan,
                                 const TensorView& offsets) = 0;
  virtual void do_expand_columns(const TensorView& plan, const ColumnLists& columns) = 0;
  virtual void do_find_movement(const TensorView& means, const TensorView& former,
                                const TensorView& scores) = 0;
  virtual void do_column_sparse_mlp(const TensorView& x, const TensorView& w1,
                                    const TensorView& w2_rows, const ColumnLists& columns,
                                    const MlpCache& cache) = 0;
  virtual void do_gather_rows(const TensorView& x, const TensorView& indices,
                              const TensorView& out) = 0;
  virtual void do_guided_euler(const TensorView& v_cond, const TensorView& v_null, float cfg,
                               float dsigma, const TensorView& z) = 0;
  virtual void do_latents_to_channels_last(const TensorView& latents, const TensorView& scale,
                                           const TensorView& shift, const TensorView& out) = 0;
  virtual void do_channels_last_to_latents(const TensorView& x, const TensorView& scale,
                                           const TensorView& shift, const TensorView& out) = 0;
  virtual void do_group_norm(const TensorView& x, const GroupNorm& params,
                             const TensorView& out) = 0;
  virtual void do_conv3d(const TensorView& x, const Conv3d& params, const TensorView& out) = 0;
  virtual void do_depth_to_space_time(const TensorView& x, const Upsample& upsample,
                                      const TensorView& out) = 0;
  virtual void do_fourier_features(const TensorView& x, std::span<const int> frequencies,
                                   const TensorView& out) = 0;
  virtual void do_temporal_attention(const TensorView& qkv, int head_dim,
                                     const TensorView& out) = 0;
  virtual void do_to_rgb8(const TensorView& x, const TensorView& out) = 0;
};

struct BackendOptions {
  // The CPU backend computes in fp32 whatever this says.
  DType activation_dtype = DType::kBF16;  // or F32
  std::uint64_t memory_limit_bytes = 0;   // of device memory; 0: all that there is
  bool is_portable = false;  // leave out what only one architecture has: for tests and comparisons
};

// The backend of a device. Throws Error saying why when this build or machine has none.
std::unique_ptr<Backend> make_backend(Device device, const BackendOptions& options = {});

// Why there is no CUDA backend here, in one line, or empty: there is one.
std::string find_cuda_problem();

// Whether the work should stop. Called from the thread that runs the networks.
using StopFn = std::function<bool()>;

// First argument of all that computes.
struct Context {
  Backend& backend;
  Arena& scratch;
  const StopFn* should_stop = nullptr;  // null: nobody can stop the work

  // Throws Cancelled when the work should stop. For the pauses between the blocks of a network,
  // outside graph capture.
  void check_stop() const {
    if (should_stop != nullptr && *should_stop && (*should_stop)()) throw Cancelled();
  }
  TensorView activation(const Shape& shape) const {  // scratch of the activation dtype
    return scratch.allocate(backend.activation_dtype(), shape);
  }
};

}  // namespace mochi
