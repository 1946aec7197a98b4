#include "tcpip/endpoint/link_source.h"

#include <utility>

#include "tcpip/endpoint/link.h"
#include "tcpip/endpoint/text.h"

namespace tcpip::internal {

void LinkSource::forget() noexcept {
  clear(for_reads_);
  clear(for_writes_);
}

void LinkSource::clear(Cache& cache) const noexcept {
  // Whoever uses the cache looks at the version afterwards.
  if (!cache.in_use.exchange(true)) cache.drop();
}

void LinkSource::Cache::drop() noexcept {
  const TextLink dropped = std::exchange(kept, {});
  version = 0;
  in_use.store(false);
}

// The version was read before the source is asked: if the source changes in
// between, the next use asks once more.
void LinkSource::Use::refresh(const LinkSource& source) {
  try {
    TextLink found = source.text_link();
    // Without a connection only the format is kept, and nobody calls
    // note_change() for the format of a connection that is over.
    cache_->version = found.link ? version_ : 0;
    cache_->kept = std::move(found);
  } catch (...) {
    cache_->in_use.store(false);
    throw;
  }
}

void LinkSource::Use::use_own(const LinkSource& source) {
  own_ = source.text_link();
  use(own_);
}

}  // namespace tcpip::internal
