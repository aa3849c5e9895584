// Warnings about requests that go beyond the limits of a model.
#pragma once

#include <string>
#include <vector>

#include "mochi/mochi.h"
#include "pipeline/model_directory.h"

namespace mochi {

// Returns one line for each limit that a request exceeds: a prompt that is longer than the model
// reads; sizes, numbers of frames and words that it did not see in training, as far as its
// config.json knows them. The request is valid. Reads the tokenizer, if there is one.
std::vector<std::string> model_warnings(const ModelDirectory& directory,
                                        const GenerateRequest& request);

}  // namespace mochi
