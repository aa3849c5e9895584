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

// Visitor of an operation's fields: replaces host tensors by tensors of another backend. A host
// tensor that is passed twice becomes one tensor there.
class Call {
 public:
  Call(Backend& inner, const char* op) : inner_(inner), op_(op), scratch_(inner.allocator()) {}

  void operator()(const char* /*name*/, Role role, TensorView& view) {
    if (role.place == Place::kDevice) view = mirror(view, inner_dtype(role, view), role);
  }
  void operator()(const char* /*name*/, Role role, HeadsView& heads) {
    heads.tensor = mirror(heads.tensor, inner_.activation_dtype(), role);
  }
  void operator()(const char* /*name*/, Role role, InMatrix& matrix) {
    matrix = mirror_matrix(matrix, role);
  }
  void operator()(const char* /*name*/, Role role, MatrixView& rows) {
    if (rows) rows = mirror_matrix(rows, role);
  }
  void operator()(const char* /*name*/, Role role, InStored& matrix) {
    const TensorView values = mirror(matrix.values(), matrix.values().dtype(), role);
    const TensorView scales = mirror(matrix.scales(), DType::kF32, role);
    matrix = MatrixView{matrix.type(), values, scales, matrix.shape(), inner_.activation_dtype()};
  }
  void operator()(const char* /*name*/, std::reference_wrapper<Arena>& scratch) {
    scratch = scratch_;
  }
  void operator()(const char* /*name*/, auto& /*value*/) {}

  // Called after the operation: copies the outputs back and checks that inputs are unchanged.
  void finish() {
    for (const Entry& entry : entries_) {
      const Tensor now(entry.uploaded.view().dtype(), entry.host.shape());
      inner_.run(ops::Download{.source = entry.device, .host = now});
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

  DType inner_dtype(Role role, const TensorView& host) const {
    const bool is_cache = role.elements == Elements::kCache && host.dtype() != DType::kF8E4M3;
    const bool is_matrix = role.elements == Elements::kF32OrMatrix && host.dtype() != DType::kF32;
    const bool is_converted = role.elements == Elements::kActivation ||
                              role.elements == Elements::kMatrix || is_cache || is_matrix;
    return is_converted ? inner_.activation_dtype() : host.dtype();
  }

  MatrixView mirror_matrix(const MatrixView& matrix, Role role) {
    if (!matrix.is_quantised()) return mirror(matrix.values(), inner_.activation_dtype(), role);
    return {mirror(matrix.values(), matrix.dtype(), role),
            mirror(matrix.scales(), DType::kF32, role)};
  }

  TensorView mirror(const TensorView& host, DType dtype, Role role) {
    if (!host) return {};
    const bool is_written = role.is_written();
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
    inner_.run(ops::Upload{.host = entry.uploaded, .target = entry.device});
    return entry.device;
  }

  Backend& inner_;
  const char* op_;
  Arena scratch_;
  std::deque<Entry> entries_;
};

}  // namespace mochi
