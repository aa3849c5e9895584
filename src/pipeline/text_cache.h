// The texts that an engine encoded or used last, with their features in host memory. There they
// take nothing from the networks on a GPU, whose memory may be limited, and the upload of at most
// 2 MB per text is hidden by the first step.
#pragma once

#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace mochi {

class TextCache {
 public:
  // Features [tokens, width], valid until the next add(); null if the text is not stored. The text
  // becomes the one that was used last.
  const Tensor* find(const std::string& text);
  // Stores a text that is not stored yet, in place of the one whose use is the longest ago if there
  // are kMaxEncodedPrompts.
  void add(const std::string& text, Tensor features);

 private:
  struct Entry {
    std::string text;
    Tensor features;
  };
  std::vector<Entry> entries_;  // in the order of their use, the last one first
};

}  // namespace mochi
