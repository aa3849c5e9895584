// Builds the map of a KeyMappedSource.
#pragma once

#include <string>
#include <vector>

#include "io/tensor_source.h"

namespace mochi {

class KeyMapBuilder {
 public:
  explicit KeyMapBuilder(const TensorSource& source) : source_(source) {}

  bool has(const std::string& source_name) const { return source_.contains(source_name); }
  // How many of prefix0suffix, prefix1suffix, ... follow one another in the source.
  int count(const std::string& prefix, const std::string& suffix) const;

  void rename(const std::string& target, const std::string& source_name);
  // weight, and bias where the source has one.
  void rename_layer(const std::string& target, const std::string& source_name);
  // Rows of several tensors, one tensor after the other.
  void concatenate(const std::string& target, const std::vector<std::string>& source_names);
  // The second half of the rows, then the first.
  void swap_halves(const std::string& target, const std::string& source_name);

  KeyMappedSource::KeyMap take() { return std::move(map_); }

 private:
  const TensorSource& source_;
  KeyMappedSource::KeyMap map_;
};

}  // namespace mochi
