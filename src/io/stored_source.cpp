#include "io/stored_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "io/checkpoint.h"
#include "io/gguf_parts.h"
#include "io/gguf_source.h"
#include "io/qweight_source.h"

namespace mochi {

std::string PrefixedSource::description() const {
  return fmt::format("{} (below '{}')", source_->description(), prefix_);
}

std::vector<std::string> PrefixedSource::below_prefix(const std::vector<std::string>& names) const {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    if (name.starts_with(prefix_)) found.push_back(name.substr(prefix_.size()));
  }
  return found;
}

std::vector<std::filesystem::path> PrefixedSource::files() const {
  std::set<std::filesystem::path> files;
  for (const std::string& name : names()) files.insert(file_of(name));
  return {files.begin(), files.end()};
}

std::shared_ptr<StoredSource> open_weights(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored) && is_gguf(path)) {
    return open_gguf(path);
  }
  return with_qweights(Checkpoint::open(path));
}

}  // namespace mochi
