// The op table: all computation of the model, as coarse operations that mean something to it. Each
// operation's contract is stated here and checked once, in the non-virtual front (backend.cpp,
// backend_attention.cpp, backend_vae.cpp). A backend implements the private virtual half and may
// rely on the contract.
//
// Unless an operation states otherwise: tensors are contiguous and on this backend's device;
// activations have dtype activation_dtype(); "matrix" weights are F32 or BF16 on the CPU and of the
// activation dtype on a GPU, and a MatrixView may hold them in a smaller type, from which they are
// widened for the operation; "vector" weights (biases, norm weights) and tables are F32; sums are
// accumulated in fp32; inputs and outputs do not overlap. A violated contract throws an Error that
// names the operation and the shapes.
//
// A GPU runs the operations in the order of the calls, but the calls return earlier. download(),
// to_rgb8() and synchronize() wait for it. Memory may be freed at any time, because freeing waits,
// too.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "backend/op_parameters.h"
#include "base/stop.h"
#include "tensor/arena.h"
#include "tensor/matrix_view.h"
#include "tensor/tensor.h"

namespace mochi {

// Preferred chunk sizes of the VAE. Larger chunks need more memory and keep a GPU busy; on a CPU
// they are not faster.
struct ChunkSizes {
  std::int64_t latent_frames = 1;                       // number of latent frames decoded at a time
  std::int64_t slice_elements = std::int64_t{1} << 23;  // size of each scratch tensor in a block
};

// Memory use of a GPU. All zero on the CPU.
struct DeviceMemory {
  std::uint64_t used_bytes = 0;       // allocated by this backend's tensors
  std::uint64_t peak_bytes = 0;       // maximum of used_bytes since the start or restart_peak()
  std::uint64_t available_bytes = 0;  // still free, within the limit
};

// Copies stored weights to the device asynchronously, in an unspecified order. Not thread-safe.
class WeightLoader {
 public:
  virtual ~WeightLoader() = default;
  // Fills target (on the device) with stored elements of any alignment: floats of any dtype for F32
  // or BF16, otherwise those of the target's dtype.
  // `bytes` may be freed when the call returns.
  virtual void load(DType stored, std::span<const std::byte> bytes, const TensorView& target) = 0;
  // Waits until all targets are filled. Throws Error if a copy failed.
  virtual void finish() = 0;
};

// A captured sequence of operations (a CUDA graph) that can be launched again with one call.
class CapturedGraph {
 public:
  virtual ~CapturedGraph() = default;
  // Launches the captured operations on the memory they were captured with. Returns false without
  // launching anything if the backend's internal memory has moved since; then capture again.
  virtual bool replay() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // ---- the device ----
  // None of these has a default, so that a backend around another one cannot forget to forward it.
  virtual Device device() const = 0;
  virtual Allocator& allocator() = 0;
  virtual DType activation_dtype() const = 0;
  // The dtype of matrix weights, F32 or BF16, whose matmuls are fastest on this backend.
  virtual DType preferred_matrix_dtype() const = 0;
  virtual ChunkSizes preferred_chunks() const = 0;

  virtual std::string device_name() const = 0;  // "CPU", or the GPU's name
  virtual DeviceMemory memory() const = 0;
  virtual void restart_peak() = 0;
  // Allocator of the host memory from which copies to the device are fastest.
  virtual Allocator& staging_allocator() = 0;
  // Returns null if the host should read weights directly into their tensors.
  virtual std::unique_ptr<WeightLoader> make_weight_loader() = 0;

  // Waits until all operations launched so far are complete. Throws Error if one failed.
  void synchronize() { do_synchronize(); }

  // Runs `fn` and captures the operations it launches. `fn` must have run once before, so that
  // everything is allocated; it must not allocate, upload, download or synchronize, and it must
  // wait for the copies it starts (await_prefetch(), await_write_back()). Returns null if capturing
  // gains nothing on this backend; then call `fn` each time.
  virtual std::unique_ptr<CapturedGraph> capture(const std::function<void()>& fn) = 0;

  // Copy host → device and device → host; dtype and size must match. The host memory may be reused
  // when the call returns.
  void upload(const TensorView& host, const TensorView& target);
  void download(const TensorView& source, const TensorView& host);

  // ---- weights ----
  // target (F32, or a matrix) = mean + deviation·fill_normal(kMochi, seed). The values are equal on
  // every device.
  void fill_normal(const NormalFill& fill, const TensorView& target);
  // out [rows, columns] = the values of `matrix`, rounded to its dtype.
  void widen(const MatrixView& matrix, const TensorView& out);
  // Starts to copy host memory to the device memory `target` (same dtype and size) in the
  // background: after all operations launched so far, concurrently with those launched next. The
  // host memory must stay valid until await_prefetch(slot); operations launched after that call may
  // use the target. Slots are 0 to kNumPrefetchSlots − 1.
  void prefetch(int slot, const TensorView& host, const TensorView& target);
  void await_prefetch(int slot);
  // Starts to copy device memory `source` to host memory (same dtype and size) in the background.
  // The source must not change until await_write_back(slot); operations launched after that call
  // may overwrite it. The host sees the values after a later synchronize().
  void write_back(int slot, const TensorView& source, const TensorView& host);
  void await_write_back(int slot);
  static constexpr int kNumPrefetchSlots = 8;  // the number of write-back slots, too

  // ---- any model ----
  // target = source; equal sizes; each dtype is F32 or the activation dtype, and values are
  // converted.
  void copy(const TensorView& source, const TensorView& target);
  void add(const TensorView& a, const TensorView& b, const TensorView& out);  // may alias
  void silu(const TensorView& x, const TensorView& out);                      // may alias
  // out [⌈rows / block_size⌉, width] = means over blocks of rows of x [rows, width]. With
  // block_size 0, out [1, width] = mean over all rows, or zero if there are none.
  void mean_rows(const TensorView& x, const TensorView& out, std::int64_t block_size = 0);
  // out [columns, rows] = transpose of the matrix weight x [rows, columns].
  void transpose(const MatrixView& x, const TensorView& out);
  // out [rows, n] = act(x [rows, k] · weight [n, k]ᵀ + bias [n] (may be empty)).
  void linear(const TensorView& x, const MatrixView& weight, const TensorView& bias,
              const TensorView& out, const LinearOptions& options = {});
  // out [rows, f] = act(a)·b with x [rows, 2·f] = (a | b).
  void gated_activation(const TensorView& x, Activation activation, const TensorView& out);
  // out [rows, f] = act(a)·b with (a | b) = x [rows, k] · weight [2·f, k]ᵀ. A backend that needs
  // two steps for it stores (a | b) in the scratch.
  void gated_linear(const TensorView& x, const MatrixView& weight, Activation activation,
                    Arena& scratch, const TensorView& out);
  // out = softmax(q·kᵀ·scale + bias)·v; num_keys ≥ 1. Each of q, k and v may be columns of a
  // matrix.
  void attention(const AttentionInputs& in, const AttentionOutputs& to);

  // ---- text encoder ----
  // out [n, width] = rows `ids` of table [vocabulary, width]; every id must be in range.
  void embedding(std::span<const std::int32_t> ids, const TensorView& table, const TensorView& out);
  // out = x / rms(x) · weight, for each row of [rows, width].
  void rms_norm(const TensorView& x, const TensorView& weight, float eps, const TensorView& out);

  // ---- diffusion transformer ----
  // latents [channels, T, H, W] f32 → tokens [T·H/p·W/p, channels·p·p]. The token order is (t, h,
  // w); features are (channel, row, column), the order of a convolution weight [D, channels, p, p].
  void patchify(const TensorView& latents, int patch_size, const TensorView& out);
  // tokens [T·H/p·W/p, p·p·channels] with features (row, column, channel) → latents f32.
  void unpatchify(const TensorView& tokens, int patch_size, const TensorView& latents);
  // out = x / rms(x) · (1 + scale [width]), for each row.
  void norm_modulate(const TensorView& x, const TensorView& scale, float eps,
                     const TensorView& out);
  // out = layer_norm(x) · (1 + scale [width]) + shift [width], for each row.
  void layer_norm_modulate(const TensorView& x, const TensorView& shift, const TensorView& scale,
                           float eps, const TensorView& out);
  // Splits qkv [tokens, 3·heads·head_dim], ordered (q|k|v, head, head_dim). q and k are
  // RMS-normalised with their weights, then rotated in (even, odd) pairs. The results go to rows
  // [offset, offset + tokens) of q, k, v [heads, total, head_dim].
  void qk_norm_rope(const TensorView& qkv, const QkNormRope& params, std::int64_t offset,
                    const TensorView& q, const TensorView& k, const TensorView& v);
  // qk_norm_rope() of x [tokens, k] · weight [3·heads·head_dim, k]ᵀ. A backend that needs two steps
  // for it stores the product in the scratch.
  void qkv_linear(const TensorView& x, const MatrixView& weight, const QkNormRope& params,
                  std::int64_t offset, Arena& scratch, const TensorView& q, const TensorView& k,
                  const TensorView& v);
  // x += r̂ / rms(r̂) · tanh(gate), for each row of [rows, width], with r̂ = r + bias. Then
  // next_out = x / rms(x) · (1 + next_scale).
  void gated_residual(const TensorView& r, const GatedResidual& params, const TensorView& x);

  // ---- sparsity; without bias ----
  // Computes attention() and how much each column weighs for each query group.
  void attention_with_column_sums(const AttentionInputs& in, const ColumnSums& scores,
                                  const AttentionOutputs& to);
  // Computes attention() of every query group over its own columns and adds the delta. The lse is
  // that of these columns alone. q, k and v must be separate tensors.
  void column_sparse_attention(const AttentionInputs& in, const ColumnLists& columns,
                               const AttentionDelta& delta, const AttentionOutputs& to);
  // Fills the delta's cache and weight so that applying the delta to `sparse` gives `dense`; both
  // need lse if the delta has a weight. In an F8_E4M3 cache the largest value of each query and
  // head becomes ±448 times the scale; if all values are zero, so is the scale.
  void find_delta(const AttentionOutputs& dense, const AttentionOutputs& sparse,
                  const AttentionDelta& delta);
  // Computes the plan of every head and group and the offsets of its lists. All lists together must
  // hold fewer than 2^31 columns.
  void select_columns(const ColumnChoice& choice, const TensorView& plan,
                      const TensorView& offsets);
  // Writes a plan as lists: columns.offsets are given, columns.columns is filled.
  void expand_columns(const TensorView& plan, const ColumnLists& columns);
  // scores [1, blocks, hidden] f32 of the hidden columns: |Δa| + |Δb| between two MlpCache means.
  void find_movement(const TensorView& means, const TensorView& former, const TensorView& scores);
  // Updates `cache` to x [tokens, width] in the listed hidden columns (one list per block of
  // tokens, possibly empty): computes their activations and means again and adds the change to the
  // output. w1 [2·hidden, width] and w2_rows [hidden, width], the transpose of w2, are matrix
  // weights. Matmuls take f32 inputs: unlike linear(), this operation rounds no input to BF16.
  void column_sparse_mlp(const TensorView& x, const MatrixView& w1, const TensorView& w2_rows,
                         const ColumnLists& columns, const MlpCache& cache);
  // out [n, width] = rows `indices` [n] i32 of x [rows, width]; every index must be in range.
  void gather_rows(const TensorView& x, const TensorView& indices, const TensorView& out);

  // ---- sampler (all F32) ----
  // z += dsigma · (v_null + cfg · (v_cond − v_null)).
  void guided_euler(const TensorView& v_cond, const TensorView& v_null, float cfg, float dsigma,
                    const TensorView& z);
  // out = weight_a·a + weight_b·b. out may be a or b.
  void weighted_sum(const TensorView& a, float weight_a, const TensorView& b, float weight_b,
                    const TensorView& out);
  // out [2] = (‖a − b‖, ‖b‖), L2 norms over all elements. Repeated calls give the same bits. The
  // scratch holds partial sums.
  void difference_norms(const TensorView& a, const TensorView& b, Arena& scratch,
                        const TensorView& out);

  // ---- video VAE; tensors are channels-last: [frames, rows, columns, channels] ----
  // latents [channels, T, H, W] f32 → out [T, H, W, channels] = latents·scale + shift [channels].
  void latents_to_channels_last(const TensorView& latents, const TensorView& scale,
                                const TensorView& shift, const TensorView& out);
  // The inverse layout change: out [channels, T, H, W] f32 = (x − shift)·scale of the first
  // `channels` channels of x [T, H, W, ≥ channels].
  void channels_last_to_latents(const TensorView& x, const TensorView& scale,
                                const TensorView& shift, const TensorView& out);
  // out [T, H + 2·halo, W + 2·halo, C] = act(group_norm(x [T, H, W, C])), with halo 0 or 1.
  // Statistics are per frame and group; the halo repeats the edge. out must not alias x.
  void group_norm(const TensorView& x, const GroupNorm& params, const TensorView& out);
  // "Valid" convolution, no padding: x [T, H, W, Ci] → out [(T−kt)/st + 1, …, …, Co].
  void conv3d(const TensorView& x, const Conv3d& params, const TensorView& out);
  // x [T, H, W, C·temporal·spatial²], features (C, st, sh, sw) →
  // out [T·temporal − dropped, H·spatial, W·spatial, C].
  void depth_to_space_time(const TensorView& x, const Upsample& upsample, const TensorView& out);
  // x [T, H, W, C] in [−1, 1], F32 or activation → out [T, H, W, C·(1 + 2·n)]: x, then sin and then
  // cos of 2π·2^f·x, with the n frequencies of a channel next to each other. High frequencies need
  // F32.
  void fourier_features(const TensorView& x, std::span<const int> frequencies,
                        const TensorView& out);
  // Causal attention over frames at every pixel: qkv [T, H, W, 3·C], ordered (q|k|v, head,
  // head_dim), with q and k L2-normalised and scale head_dim^−½; out [T, H, W, C]. qkv holds all T
  // frames of the video.
  void temporal_attention(const TensorView& qkv, int head_dim, const TensorView& out);
  // (x + 1)/2 clamped to [0, 1], as bytes: x [T, H, W, 3] → out u8 on the host.
  void to_rgb8(const TensorView& x, const TensorView& out);

 protected:
  // Fallbacks in two steps, for a backend without a fused kernel or for cases its kernel does not
  // cover.
  virtual void do_gated_linear(const TensorView& x, const TensorView& weight, Activation activation,
                               Arena& scratch, const TensorView& out);
  virtual void do_qkv_linear(const TensorView& x, const TensorView& weight,
                             const QkNormRope& params, std::int64_t offset, Arena& scratch,
                             const TensorView& q, const TensorView& k, const TensorView& v);
  // Allocates `memory` again if it is smaller than this, and returns where it is.
  std::byte* grow(Tensor& memory, std::size_t num_bytes);

 private:
  // Returns the matrix as products take it; valid until the next call.
  TensorView dense(const MatrixView& matrix);

  virtual void do_synchronize() {}
  virtual void do_upload(const TensorView& host, const TensorView& target) = 0;
  virtual void do_download(const TensorView& source, const TensorView& host) = 0;
  virtual void do_fill_normal(const NormalFill& fill, const TensorView& target) = 0;
  virtual void do_widen(const MatrixView& matrix, const TensorView& out) = 0;
  virtual Tensor& dense_memory() = 0;  // memory for one matrix, at first empty
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
  virtual void do_weighted_sum(const TensorView& a, float weight_a, const TensorView& b,
                               float weight_b, const TensorView& out) = 0;
  virtual void do_difference_norms(const TensorView& a, const TensorView& b, Arena& scratch,
                                   const TensorView& out) = 0;
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
  // Ignored by the CPU backend, which computes in fp32.
  DType activation_dtype = DType::kBF16;  // or F32
  std::uint64_t memory_limit_bytes = 0;   // limit of device memory; 0: no limit
  // Leaves out the kernels that only one architecture has, for tests and comparisons.
  bool is_portable = false;
};

// Creates the backend of a device. Throws Error with the reason if this build or machine has none.
std::unique_ptr<Backend> make_backend(Device device, const BackendOptions& options = {});

// Returns one line that says why there is no CUDA backend, or an empty string if there is one.
std::string find_cuda_problem();

// The first argument of every function that computes.
struct Context {
  Backend& backend;
  Arena& scratch;
  const StopFn* should_stop = nullptr;  // null: nobody can stop the work

  // Throws Cancelled when the work should stop. For the pauses between the blocks of a network,
  // outside graph capture.
  void check_stop() const;
  TensorView activation(const Shape& shape) const {  // allocates scratch of the activation dtype
    return scratch.allocate(backend.activation_dtype(), shape);
  }
};

}  // namespace mochi
