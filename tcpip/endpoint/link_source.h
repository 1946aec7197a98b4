// Where the members of a ReadWriter find their connection.
//
// A call needs the Link and the format of its text messages, and must keep both
// alive. Taking them from the source costs a lock and four counts. So each
// source keeps what the last read and the last write have used, each in a
// Cache: the next one takes it from there while the source is unchanged.
//
// When a connection ends, nothing may keep its Link. So the source changes its
// version first, then clears its caches (forget()); a call that uses a cache at
// that moment lets go of the cache first, then looks at the version, and clears
// the cache itself. Both are sequentially consistent: at least one of the two
// sees what the other has done. tests/model/link_cache.pml is the proof.
//
// The program may destroy its Connection in a stop callback, which runs in a
// thread that is in a call of that Connection: what is kept may then be all
// that keeps the source. A call that finds the version changed has that case in
// mind.
//
// Threads: every member may be called from any thread.
#ifndef TCPIP_ENDPOINT_LINK_SOURCE_H_
#define TCPIP_ENDPOINT_LINK_SOURCE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "tcpip/process_mark.h"

namespace tcpip::internal {

class TextFormat;
struct Link;

// A connection, and the format of its text messages.
struct TextLink {
  std::shared_ptr<Link> link;                // null as LinkSource::link()
  std::shared_ptr<const TextFormat> format;  // null if there is no endpoint
};

// A ConnectionRecord gives its own connection, an EndpointCore the current one.
class LinkSource {
 public:
  class Use;

  // Null if there is no connection or it has ended.
  virtual std::shared_ptr<Link> link() const = 0;
  // The same with the format, for calls that begin now. Takes one lock.
  virtual TextLink text_link() const = 0;
  // What to name in an error if link() is null.
  virtual std::string subject() const = 0;

 protected:
  ~LinkSource() = default;

  // To be called when text_link() is another from now on. A call that begins
  // after this asks text_link().
  void note_change() noexcept { version_.fetch_add(1); }
  // To be called after note_change(), if a connection has ended, without any
  // lock: this may destroy a Link.
  void forget() noexcept;

  const ProcessMark process_;

 private:
  struct Cache {
    std::atomic<bool> in_use{false};
    // Whoever has set in_use owns these.
    std::uint64_t version = 0;  // of the source; 0: ask it
    TextLink kept = {};

    // For who has set in_use: drops what is kept, and lets go of it. Does not
    // touch the source, nor the cache, once another may use it.
    void drop() noexcept;
  };

  void clear(Cache& cache) const noexcept;

  std::atomic<std::uint64_t> version_{1};
  mutable Cache for_reads_;
  mutable Cache for_writes_;
};

// The connection that a call uses, for as long as this lives.
class LinkSource::Use {
 public:
  enum class For { kRead, kWrite };

  // Of no source: without a connection and a format. Throws as text_link(), and
  // std::logic_error in a child that fork() has made.
  Use(const LinkSource* source, For use, const char* operation);
  ~Use();
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  Link* link() const noexcept { return link_; }
  const TextFormat* format() const noexcept { return format_; }

 private:
  void refresh(const LinkSource& source);
  void use_own(const LinkSource& source);
  void use(const TextLink& found) noexcept {
    link_ = found.link.get();
    format_ = found.format.get();
  }

  const LinkSource* const source_;
  Cache* cache_ = nullptr;  // null if another call uses it
  std::uint64_t version_ = 0;
  Link* link_ = nullptr;
  const TextFormat* format_ = nullptr;
  TextLink own_;  // without a cache
};

using LinkUse = LinkSource::Use;

inline LinkSource::Use::Use(const LinkSource* source, For use,
                            const char* operation)
    : source_(source) {
  if (source == nullptr) return;
  source->process_.check(operation);
  Cache& cache = use == For::kRead ? source->for_reads_ : source->for_writes_;
  if (cache.in_use.exchange(true)) [[unlikely]] {
    use_own(*source);
    return;
  }
  cache_ = &cache;
  version_ = source->version_.load();
  if (cache.version != version_) [[unlikely]] {
    refresh(*source);
  }
  this->use(cache.kept);
}

inline LinkSource::Use::~Use() {
  if (cache_ == nullptr) return;
  if (source_->version_.load() != version_) [[unlikely]] {
    cache_->drop();
    return;
  }
  cache_->in_use.store(false);
  if (source_->version_.load() != version_) [[unlikely]] {
    source_->clear(*cache_);
  }
}

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_LINK_SOURCE_H_
