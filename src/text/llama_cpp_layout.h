// T5's names in GGUF files, which are llama.cpp's ("enc.blk.0.attn_q.weight").
#pragma once

#include <memory>
#include <string>

#include "io/stored_source.h"

namespace mochi {

bool has_llama_cpp_t5_keys(const TensorSource& source);

// Return a name of llama.cpp's for one of transformers', and the reverse. Other names stay.
std::string to_llama_cpp_t5_name(const std::string& name);
std::string from_llama_cpp_t5_name(const std::string& name);

// Returns the tensors under transformers' names.
std::shared_ptr<StoredSource> from_llama_cpp_t5(std::shared_ptr<const StoredSource> source);

}  // namespace mochi
