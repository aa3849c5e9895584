#include "cli/flag_names.h"

#include <algorithm>
#include <map>

namespace mochi::cli {

std::string name_flag(std::string message) {
  static const std::map<std::string, std::string> other_names{{"num_threads", "--threads"},
                                                              {"initial_noise", "--noise"},
                                                              {"loras", "--lora-path"},
                                                              {"latents", "--noise"},
                                                              {"noise source", "--noise-source"}};
  const std::size_t end = message.find(':');
  if (end == std::string::npos) return message;
  const std::string field = message.substr(0, end);
  const auto other = other_names.find(field);
  if (other != other_names.end()) return other->second + message.substr(end);
  if (field.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") != std::string::npos) return message;
  std::replace(message.begin(), message.begin() + static_cast<std::ptrdiff_t>(end), '_', '-');
  return "--" + message;
}

}  // namespace mochi::cli
