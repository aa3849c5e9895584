#include "server/lora_text.h"

#include <fmt/format.h>

#include <cmath>

#include "server/number_text.h"

namespace mochi::server {

NamedLora parse_lora(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return {std::string(text)};
  const std::optional<double> scale = parse_number<double>(text.substr(colon + 1));
  if (!scale || !std::isfinite(*scale)) return {std::string(text)};
  return {std::string(text.substr(0, colon)), *scale};
}

std::string format_lora(const NamedLora& lora) {
  // A name that ends as a scale does is written with its own.
  const bool is_plain = lora.scale == 1 && parse_lora(lora.name).name == lora.name;
  return is_plain ? lora.name : fmt::format("{}:{}", lora.name, lora.scale);
}

}  // namespace mochi::server
