// The tensors of one call of an operation on another backend, for MirrorBackend.
#pragma once

#include <cstring>
#include <deque>
#include <string>

#include "backend/backend.h"
#include "base/error.h"
#include "tensor/float_arrays.h"

namespace mochi {

template <typename T>
std::span<T> elements(const TensorView& view) {
  return {reinterpret_cast<T*>(view.bytes()), static_cast<std::size_t>(view.num_elements())};
}

// target = source. Both are on the host and have equal sizes; F32 and BF16 are converted.
inline void convert(const TensorView& source, const TensorView& target) {
  const std::span<const std::byte> bytes(source.bytes(), source.size_bytes());
  if (source.dtype() == target.dtype()) {
    std::memcpy(target.bytes(), bytes.data(), bytes.size());
  } else if (target.dtype() == DType::kBF16) {
    convert_to_bf16(source.dtype(), bytes, elements<BFloat16>(target));
  } else {
    convert_to_f32(source.dtype(), bytes, elements<float>(target));
  }
}

// The tensors of one call. A host tensor that is passed twice becomes one tensor on the other
// backend.
class Call {
 public:
  Call(Backend& inner, const char* op) : inner_(inner), op_(op) {}

  // Converted tensors: activations and matrices.
  TensorView in(const TensorView& host) { return mirror(host, inner_.activation_dtype(), false); }
  TensorView out(const TensorView& host) { return mirror(host, inner_.activation_dtype(), true); }
  // Unconverted tensors: vectors, tables, indices and tensors that are always F32.
  TensorView raw_in(const TensorView& host) { return mirror(host, host.dtype(), false); }
  TensorView raw_out(const TensorView& host) { return mirror(host, host.dtype(), true); }

  HeadsView in(const HeadsView& host) {
    HeadsView heads = host;
    heads.tensor = in(host.tensor);
    return heads;
  }
  AttentionInputs in(const AttentionInputs& host) {
    return {in(host.q), in(host.k), in(host.v), raw_in(host.bias), host.scale};
  }
  QkNormRope in(const QkNormRope& host) {
    return {raw_in(host.q_weight), raw_in(host.k_weight), raw_in(host.cos), raw_in(host.sin),
            host.eps};
  }
  AttentionOutputs out(const AttentionOutputs& host) { return {out(host.out), raw_out(host.lse)}; }
  ColumnLists in(const ColumnLists& host) {
    return {raw_in(host.offsets), raw_in(host.columns), host.group_size};
  }

  // Called after the operation: copies the outputs back and checks that inputs are unchanged.
  void finish() {
    for (const Entry& entry : entries_) {
      const Tensor now(entry.uploaded.view().dtype(), entry.host.shape());
      inner_.download(entry.device, now);
      if (entry.is_written) {
        convert(now, entry.host);
      } else if (std::memcmp(now.view().bytes(), entry.uploaded.view().bytes(),
                             now.view().size_bytes()) != 0) {
        throw Error(std::string(op_) + " wrote to a tensor that it should only read");
      }
    }
  }

 private:
  struct Entry {
    TensorView host;
    Tensor uploaded;  // as it was uploaded
    Tensor device;
    bool is_written;
  };

  TensorView mirror(const TensorView& host, DType dtype, bool is_written) {
    if (!host) return {};
    for (Entry& entry : entries_) {
      if (entry.host.bytes() != host.bytes()) continue;
      if (entry.host.num_elements() != host.num_elements() ||
          entry.device.view().dtype() != dtype) {
        throw Error(std::string(op_) + ": two tensors overlap");
      }
      entry.is_written = entry.is_written || is_written;
      return entry.device.view().reshape(host.shape());
    }
    Entry& entry = entries_.emplace_back();
    entry.host = host;
    entry.uploaded = Tensor(dtype, host.shape());
    entry.device = Tensor(dtype, host.shape(), inner_.allocator());
    entry.is_written = is_written;
    convert(host, entry.uploaded);
    inner_.upload(entry.uploaded, entry.device);
    return entry.device;
  }

  Backend& inner_;
  const char* op_;
  std::deque<Entry> entries_;
};

}  // namespace mochi
