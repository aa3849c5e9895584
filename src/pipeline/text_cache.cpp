#include "pipeline/text_cache.h"

#include <algorithm>
#include <utility>

#include "mochi/mochi.h"

namespace mochi {

const Tensor* TextCache::find(const std::string& text) {
  const auto found = std::ranges::find(entries_, text, &Entry::text);
  if (found == entries_.end()) return nullptr;
  std::rotate(entries_.begin(), found, found + 1);
  return &entries_.front().features;
}

void TextCache::add(const std::string& text, Tensor features) {
  Entry entry{text, std::move(features)};
  if (entries_.size() == kMaxEncodedPrompts) entries_.pop_back();
  entries_.insert(entries_.begin(), std::move(entry));
}

}  // namespace mochi
