// Operations that have no kernel yet.
#include "backend/cuda/cuda_backend.h"
#include "base/error.h"

namespace mochi {
namespace {

[[noreturn]] void fail_missing(const char* op) { fail("{}: not computed on a GPU yet", op); }

}  // namespace

void CudaBackend::do_attention(const AttentionInputs& /*in*/, const AttentionOutputs& /*to*/) {
  fail_missing("attention");
}
void CudaBackend::do_attention_with_column_sums(const AttentionInputs& /*in*/,
                                                const ColumnSums& /*scores*/,
                                                const AttentionOutputs& /*to*/) {
  fail_missing("attention_with_column_sums");
}
void CudaBackend::do_column_sparse_attention(const AttentionInputs& /*in*/,
                                             const ColumnLists& /*columns*/,
                                             const AttentionDelta& /*delta*/,
                                             const AttentionOutputs& /*to*/) {
  fail_missing("column_sparse_attention");
}
void CudaBackend::do_find_delta(const AttentionOutputs& /*dense*/,
                                const AttentionOutputs& /*sparse*/,
                                const AttentionDelta& /*delta*/) {
  fail_missing("find_delta");
}
void CudaBackend::do_select_columns(const ColumnChoice& /*choice*/, const TensorView& /*plan*/,
                                    const TensorView& /*counts*/) {
  fail_missing("select_columns");
}
void CudaBackend::do_expand_columns(const TensorView& /*plan*/, const ColumnLists& /*columns*/) {
  fail_missing("expand_columns");
}
void CudaBackend::do_find_movement(const TensorView& /*means*/, const TensorView& /*former*/,
                                   const TensorView& /*scores*/) {
  fail_missing("find_movement");
}
void CudaBackend::do_column_sparse_mlp(const TensorView& /*x*/, const TensorView& /*w1*/,
                                       const TensorView& /*w2_rows*/,
                                       const ColumnLists& /*columns*/, const MlpCache& /*cache*/) {
  fail_missing("column_sparse_mlp");
}
void CudaBackend::do_gather_rows(const TensorView& /*x*/, const TensorView& /*indices*/,
                                 const TensorView& /*out*/) {
  fail_missing("gather_rows");
}

}  // namespace mochi
