// A page that is one file: style and pictures inside, no script, nothing fetched from elsewhere. It
// is well-formed XML, too.
#pragma once

#include <string>
#include <vector>

namespace mochi::report {

class HtmlPage {
 public:
  explicit HtmlPage(std::string title);

  void add_heading(const std::string& text);
  void add_text(const std::string& text);  // a paragraph
  void add_table(const std::vector<std::string>& headers,
                 const std::vector<std::vector<std::string>>& rows);
  // As draw_plot() and draw_heat_map() make them; put in as it is.
  void add_svg(const std::string& svg);
  // PNG files' contents, side by side.
  void add_image_row(const std::string& caption, const std::vector<std::string>& pngs);

  std::string finish() const;

 private:
  std::string title_;
  std::string body_;
};

}  // namespace mochi::report
