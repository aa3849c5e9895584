#include "io/joined_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace mochi {

JoinedSource::JoinedSource(std::vector<std::shared_ptr<StoredSource>> sources)
    : sources_(std::move(sources)) {
  for (const auto& source : sources_) {
    for (const std::string& name : source->names()) {
      const auto [found, is_new] = source_by_name_.emplace(name, source.get());
      if (is_new) continue;
      fail("tensor '{}' is in both '{}' and '{}'", name, found->second->file_of(name).string(),
           source->file_of(name).string());
    }
  }
}

std::string JoinedSource::description() const {
  const std::string first = sources_.front()->description();
  return sources_.size() == 1 ? first
                              : fmt::format("{} and {} more files", first, sources_.size() - 1);
}

std::vector<std::string> JoinedSource::names() const {
  std::vector<std::string> names;
  names.reserve(source_by_name_.size());
  for (const auto& [name, source] : source_by_name_) names.push_back(name);
  return names;
}

std::vector<std::string> JoinedSource::unread() const {
  std::vector<std::string> names;
  for (const auto& source : sources_)
    std::ranges::move(source->unread(), std::back_inserter(names));
  std::ranges::sort(names);
  return names;
}

std::vector<std::filesystem::path> JoinedSource::files() const {
  std::vector<std::filesystem::path> files;
  for (const auto& source : sources_) std::ranges::move(source->files(), std::back_inserter(files));
  return files;
}

std::map<std::string, std::string> JoinedSource::metadata() const {
  std::map<std::string, std::string> all;
  for (const auto& source : sources_) all.merge(source->metadata());
  return all;
}

const StoredSource& JoinedSource::source_of(std::string_view name) const {
  const auto found = source_by_name_.find(name);
  if (found == source_by_name_.end()) fail_missing(name);
  return *found->second;
}

}  // namespace mochi
