#include "io/renamed_source.h"

#include <utility>

#include "base/error.h"

namespace mochi {

RenamedSource::RenamedSource(
    std::shared_ptr<const StoredSource> source,
    const std::function<std::string(const std::string& stored_name)>& rename)
    : source_(std::move(source)) {
  for (const std::string& name : source_->names()) {
    const auto [added, is_new] = stored_names_.emplace(rename(name), name);
    if (!is_new) {
      fail("tensors '{}' and '{}' in {} are both '{}'", added->second, name, source_->description(),
           added->first);
    }
  }
}

std::vector<std::string> RenamedSource::names() const {
  std::vector<std::string> names;
  names.reserve(stored_names_.size());
  for (const auto& [name, stored_name] : stored_names_) names.push_back(name);
  return names;
}

const std::string& RenamedSource::stored(std::string_view name) const {
  const auto found = stored_names_.find(name);
  if (found == stored_names_.end()) fail_missing(name);
  return found->second;
}

}  // namespace mochi
