// Replies by key, on a link that carries other messages too: commands with a
// sequence number, say, among telemetry.
//
//   tcpip::PendingReplies<int, Ack> acks;
//
//   auto ack = acks.expect(connection, id);      // before the command is sent
//   connection.write_from(Command{id, ...}, 1s);
//   const Ack answer = ack.wait(5s);
//
//   // The thread that reads:
//   if (!acks.fulfil(connection, message.id, message)) ...;  // nobody's
//
// A reply belongs to the connection on which it was expected. One that comes
// late, twice or on another connection is nobody's: fulfil() returns false.
//
// Threads: every member of PendingReplies may be called from any thread at any
// time. A Ticket is for one thread at a time. Key's == runs under a lock: it
// must not use the PendingReplies.
#ifndef TCPIP_PENDING_REPLIES_H_
#define TCPIP_PENDING_REPLIES_H_

#include "tcpip/version.h"

#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <utility>

#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/wait.h"

namespace tcpip {

namespace internal {

// The requests that wait, without the types of their keys and replies.
class TCPIP_EXPORT PendingTable {
 public:
  class Entry {
   public:
    explicit Entry(const Connection& connection) : connection_(connection) {}
    virtual ~Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

    // True if the entry is that of the key at this address.
    virtual bool has_key(const void* key) const = 0;
    const Connection& connection() const noexcept { return connection_; }

   private:
    const Connection connection_;
  };

  PendingTable();
  ~PendingTable();
  PendingTable(const PendingTable&) = delete;
  PendingTable& operator=(const PendingTable&) = delete;

  // Adds an entry that waits. False if one of that connection and key waits
  // already.
  bool add(const std::shared_ptr<Entry>& entry, const void* key);
  // The entry that waits, if there is one, for the caller alone: it stores the
  // reply, then calls finish().
  std::shared_ptr<Entry> take(const Connection& connection, const void* key);
  void finish(const Entry& entry, bool stored) noexcept;
  // The entry's connection has ended.
  void end(const Entry& entry) noexcept;
  // Fails those that wait, of one connection or of all (null).
  std::size_t fail_all(const Connection* connection) noexcept;
  void remove(const Entry& entry) noexcept;
  // Returns when the reply is stored; throws what Ticket::wait() throws.
  void wait(const Entry& entry, const Wait& wait);
  // How many wait.
  std::size_t size() const noexcept;

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace internal

template <class Key, class Reply>
class TCPIP_EXPORT PendingReplies final {
  class Entry final : public internal::PendingTable::Entry {
   public:
    Entry(const Connection& connection, Key its_key)
        : internal::PendingTable::Entry(connection), key(std::move(its_key)) {}
    bool has_key(const void* other) const override {
      return key == *static_cast<const Key*>(other);
    }

    const Key key;
    std::optional<Reply> reply;
  };

 public:
  // The right to one reply. Destroying it gives the reply up. May outlive the
  // PendingReplies, whose destructor fails it.
  class Ticket final {
   public:
    // Returns the reply. Throws TimeoutError; CancelledError; ConnectionError
    // if the connection has ended, or fail_all() was called, without a reply.
    // After the first two it may be called again; after a reply was returned,
    // it throws std::logic_error.
    //
    // If the peer has ended the connection, the wait ends up to 0.1 s later: a
    // reply that came together with the end still counts, if the reading thread
    // fulfils it in that time.
    Reply wait(const Wait& wait = {}) {
      if (!waiting_ || waiting_->is_used) {
        throw std::logic_error("PendingReplies: the reply was returned before");
      }
      waiting_->table->wait(*waiting_->entry, wait);
      waiting_->is_used = true;
      return *std::move(waiting_->entry->reply);
    }

   private:
    friend class PendingReplies;
    struct OnEnd {
      internal::PendingTable* table;
      const Entry* entry;
      void operator()() const noexcept { table->end(*entry); }
    };
    struct Waiting {
      Waiting(std::shared_ptr<internal::PendingTable> t,
              std::shared_ptr<Entry> e)
          : table(std::move(t)),
            entry(std::move(e)),
            on_end(entry->connection().stop_token(),
                   OnEnd{table.get(), entry.get()}) {}
      ~Waiting() { table->remove(*entry); }
      Waiting(const Waiting&) = delete;
      Waiting& operator=(const Waiting&) = delete;

      const std::shared_ptr<internal::PendingTable> table;
      const std::shared_ptr<Entry> entry;
      bool is_used = false;
      std::stop_callback<OnEnd> on_end;  // last: it uses the others
    };
    explicit Ticket(std::unique_ptr<Waiting> waiting)
        : waiting_(std::move(waiting)) {}

    std::unique_ptr<Waiting> waiting_;
  };

  PendingReplies() = default;
  // fail_all().
  ~PendingReplies() { fail_all(); }
  PendingReplies(const PendingReplies&) = delete;
  PendingReplies& operator=(const PendingReplies&) = delete;

  // To be called before the request is sent, or the reply may come first.
  // Throws std::invalid_argument if that key is expected on that connection
  // already. On a connection that has ended, the wait fails.
  [[nodiscard]] Ticket expect(const Connection& connection, Key key) {
    auto entry = std::make_shared<Entry>(connection, std::move(key));
    if (!table_->add(entry, &entry->key)) {
      throw std::invalid_argument(
          "PendingReplies: the key is expected already");
    }
    try {
      return Ticket(std::make_unique<typename Ticket::Waiting>(table_, entry));
    } catch (...) {
      table_->remove(*entry);
      throw;
    }
  }

  // Gives the reply to whom expects it. False, and the reply is dropped, if
  // nobody does. Throws what moving the reply throws; then its wait fails.
  bool fulfil(const Connection& connection, const Key& key, Reply reply) {
    const auto entry =
        std::static_pointer_cast<Entry>(table_->take(connection, &key));
    if (!entry) return false;
    try {
      entry->reply.emplace(std::move(reply));
    } catch (...) {
      table_->finish(*entry, /*stored=*/false);
      throw;
    }
    table_->finish(*entry, /*stored=*/true);
    return true;
  }

  // Ends all waits (those on one connection) at once, without a reply. Returns
  // how many.
  std::size_t fail_all() noexcept { return table_->fail_all(nullptr); }
  std::size_t fail_all(const Connection& connection) noexcept {
    return table_->fail_all(&connection);
  }

  // How many replies are expected that have not come.
  std::size_t size() const noexcept { return table_->size(); }

 private:
  // Shared with the tickets.
  const std::shared_ptr<internal::PendingTable> table_ =
      std::make_shared<internal::PendingTable>();
};

}  // namespace tcpip

#endif  // TCPIP_PENDING_REPLIES_H_
