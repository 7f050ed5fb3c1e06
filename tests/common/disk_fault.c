/* Preloaded into the command under test: has the n-th operation of one kind fail, on files whose
 * path holds a text. What is not to fail goes to the C library unchanged.
 *
 *   FAULT_KIND     open, mkdir, read, write, fsync or rename
 *   FAULT_PATH     part of the absolute path of the file
 *   FAULT_AT       which operation, from 1; it and all that follow where FAULT_STAYS is set
 *   FAULT_ERRNO    what it answers; 0 has a write or read stop half way, which is no failure
 *   FAULT_MARK     a file that is made when the fault strikes
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum fate { PASSES, FAILS, IS_SHORT };

static long counted;

static enum fate fate_of(const char *kind, const char *path) {
  const char *wanted = getenv("FAULT_KIND"), *part = getenv("FAULT_PATH");
  const char *at = getenv("FAULT_AT"), *answer = getenv("FAULT_ERRNO");
  const char *mark = getenv("FAULT_MARK");
  if (!wanted || !part || !at || !answer || !mark || strcmp(wanted, kind) || !strstr(path, part))
    return PASSES;
  long number = __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST);
  if (number < atol(at) || (number > atol(at) && !getenv("FAULT_STAYS")))
    return PASSES;
  int made = NEXT(open)(mark, O_CREAT | O_WRONLY, 0600);
  if (made >= 0)
    close(made);
  errno = atoi(answer);
  return errno ? FAILS : IS_SHORT;
}

static enum fate fate_of_path(const char *kind, const char *path) {
  char whole[8192], folder[4096];
  if (path[0] == '/' || !getcwd(folder, sizeof folder))
    return fate_of(kind, path);
  snprintf(whole, sizeof whole, "%s/%s", folder, path);
  return fate_of(kind, whole);
}

static enum fate fate_of_open(const char *kind, int file) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0)
    return PASSES;
  path[length] = 0;
  return fate_of(kind, path);
}

static size_t half(size_t count) { return count > 1 ? count / 2 : count; }

#define OPEN(name)                                                                                 \
  int name(const char *path, int flags, ...) {                                                     \
    va_list more;                                                                                  \
    va_start(more, flags);                                                                         \
    mode_t mode = va_arg(more, mode_t);                                                            \
    va_end(more);                                                                                  \
    return fate_of_path("open", path) == FAILS ? -1 : NEXT(name)(path, flags, mode);               \
  }
OPEN(open)
OPEN(open64)

int mkdir(const char *path, mode_t mode) {
  return fate_of_path("mkdir", path) == FAILS ? -1 : NEXT(mkdir)(path, mode);
}

int rename(const char *from, const char *to) {
  return fate_of_path("rename", to) == FAILS ? -1 : NEXT(rename)(from, to);
}

int fsync(int file) { return fate_of_open("fsync", file) == FAILS ? -1 : NEXT(fsync)(file); }

int fdatasync(int file) {
  return fate_of_open("fsync", file) == FAILS ? -1 : NEXT(fdatasync)(file);
}

ssize_t write(int file, const void *bytes, size_t count) {
  enum fate fate = fate_of_open("write", file);
  return fate == FAILS ? -1 : NEXT(write)(file, bytes, fate == IS_SHORT ? half(count) : count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
  enum fate fate = fate_of_open("write", file);
  return fate == FAILS ? -1
                       : NEXT(pwrite64)(file, bytes, fate == IS_SHORT ? half(count) : count, at);
}

ssize_t read(int file, void *bytes, size_t count) {
  enum fate fate = fate_of_open("read", file);
  return fate == FAILS ? -1 : NEXT(read)(file, bytes, fate == IS_SHORT ? half(count) : count);
}

ssize_t pread64(int file, void *bytes, size_t count, off64_t at) {
  enum fate fate = fate_of_open("read", file);
  return fate == FAILS ? -1
                       : NEXT(pread64)(file, bytes, fate == IS_SHORT ? half(count) : count, at);
}
