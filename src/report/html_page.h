// A page in one file: style and pictures are inside, there is no script, and only videos are
// linked, which lie next to the page. The page is also well-formed XML.
#pragma once

#include <string>
#include <vector>

#include "report/figure.h"

namespace mochi::report {

// A video file next to the page, by its relative name.
struct PageVideo {
  std::string caption, file;
  int width = 0, height = 0;  // pixels
};

class HtmlPage {
 public:
  explicit HtmlPage(std::string title);

  void add_heading(const std::string& text);
  void add_text(const std::string& text);  // a paragraph
  void add_lead(const std::string& text);  // a paragraph in larger letters
  // Wide tables scroll within themselves.
  void add_table(const std::vector<std::string>& headers,
                 const std::vector<std::vector<std::string>>& rows);
  // A table of two columns, whose texts wrap so that both columns are always in view. Each row has
  // two cells.
  void add_pairs(const std::string& key_header, const std::string& value_header,
                 const std::vector<std::vector<std::string>>& rows);
  void add_figure(const Figure& figure);
  // Contents of PNG files, next to each other as far as they fit.
  void add_image_row(const std::string& caption, const std::vector<std::string>& pngs);
  // Players next to each other if they fit, and links to the files.
  void add_videos(const std::vector<PageVideo>& videos);

  std::string finish() const;

 private:
  std::string title_;
  std::string body_;
};

}  // namespace mochi::report
