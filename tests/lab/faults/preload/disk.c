/* Writes down what a process writes and syncs below a folder, so that what had not reached the disk can be taken back after
   SIGKILL: the power cut that a kill is not. DISK_ROOT names the folder, DISK_JOURNAL the file, which all of the server's
   processes append to. Records are a line, and after a W as many bytes as it ends with:
     W <inode> <offset> <length> <size before> <n>   written, after the fact; the n bytes that were there before follow
     S <inode> <at>                                  synced: all of this file that stands in the journal before <at>
     F <inode>                                       removed: the number may be another file's from here on
   cc -shared -fPIC -O2 -o disk.so disk.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int journal = -1;
static size_t root_length;
static char root[512];
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_fsync)(int), (*real_fdatasync)(int), (*real_ftruncate)(int, off_t);
static int (*real_rename)(const char *, const char *), (*real_unlink)(const char *);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_pwritev = dlsym(RTLD_NEXT, "pwritev");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    const char *path = getenv("DISK_JOURNAL"), *below = getenv("DISK_ROOT");
    if (!path || !below || strlen(below) >= sizeof root) return;
    strcpy(root, below);
    root_length = strlen(root);
    int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    if (fd < 0) return;
    journal = fcntl(fd, F_DUPFD_CLOEXEC, 700); /* out of the way of programs that count on their numbers */
    if (journal < 0) journal = fd; else close(fd);
}

/* Whether what is done to this file is written down. */
static int kept(int fd, struct stat *st) {
    char link[64], path[sizeof root];
    if (journal < 0 || fstat(fd, st) || !S_ISREG(st->st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path);
    return n > (ssize_t)root_length && !memcmp(path, root, root_length);
}

static void say(const char *line, int n, const void *bytes, size_t length) {
    struct iovec both[2] = {{(void *)line, n}, {(void *)bytes, length}};
    if (real_writev(journal, both, bytes && length ? 2 : 1) < 0) abort(); /* a test without its journal says nothing */
}

/* What a range of a file holds before it is written over. */
struct before { struct stat st; off_t offset; size_t length; char *bytes; };

static int look(int fd, off_t offset, size_t length, struct before *b) {
    if (!kept(fd, &b->st)) return 0;
    if (offset < 0) {
        int flags = fcntl(fd, F_GETFL);
        offset = flags & O_APPEND ? b->st.st_size : lseek(fd, 0, SEEK_CUR);
    }
    b->offset = offset, b->length = 0, b->bytes = 0;
    if (offset < b->st.st_size) {
        size_t there = b->st.st_size - offset;
        b->bytes = malloc(there < length ? there : length);
        ssize_t n = b->bytes ? pread(fd, b->bytes, there < length ? there : length, offset) : 0;
        b->length = n > 0 ? n : 0; /* a file that was opened for writing alone is seen to grow, no more */
    }
    return 1;
}

static void tell(struct before *b, ssize_t written) {
    int error = errno;
    if (written >= 0) {
        char line[160];
        int n = snprintf(line, sizeof line, "W %lu %lld %zd %lld %zu\n", (unsigned long)b->st.st_ino, (long long)b->offset,
                         written, (long long)b->st.st_size, b->length);
        say(line, n, b->bytes, b->length);
    }
    free(b->bytes);
    errno = error;
}

static size_t total(const struct iovec *parts, int n) {
    size_t sum = 0;
    for (int i = 0; i < n; i++) sum += parts[i].iov_len;
    return sum;
}

#define WRITTEN(fd, offset, length, call) \
    struct before b; \
    if (!look(fd, offset, length, &b)) return call; \
    ssize_t written = call; \
    tell(&b, written); \
    return written;

ssize_t write(int fd, const void *data, size_t n) { WRITTEN(fd, -1, n, real_write(fd, data, n)) }
ssize_t writev(int fd, const struct iovec *v, int n) { WRITTEN(fd, -1, total(v, n), real_writev(fd, v, n)) }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { WRITTEN(fd, at, n, real_pwrite(fd, data, n, at)) }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) { WRITTEN(fd, at, total(v, n), real_pwritev(fd, v, n, at)) }
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) { return pwrite(fd, data, n, at); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off_t at) { return pwritev(fd, v, n, at); }

int ftruncate(int fd, off_t size) {
    struct stat st;
    struct before b;
    size_t more = !fstat(fd, &st) && st.st_size > size ? st.st_size - size : 0;
    if (!look(fd, size, more, &b)) return real_ftruncate(fd, size);
    int rc = real_ftruncate(fd, size);
    tell(&b, rc ? -1 : (ssize_t)more);
    return rc;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

static int synced(int fd, int (*sync)(int)) {
    struct stat st, journal_st;
    if (!kept(fd, &st) || fstat(journal, &journal_st)) return sync(fd);
    int rc = sync(fd), error = errno;
    if (!rc) {
        char line[96];
        say(line, snprintf(line, sizeof line, "S %lu %lld\n", (unsigned long)st.st_ino, (long long)journal_st.st_size), 0, 0);
    }
    errno = error;
    return rc;
}
int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }

static void removed(const char *path) {
    struct stat st;
    char line[64];
    if (journal < 0 || lstat(path, &st) || !S_ISREG(st.st_mode) || st.st_nlink > 1) return;
    say(line, snprintf(line, sizeof line, "F %lu\n", (unsigned long)st.st_ino), 0, 0);
}
int unlink(const char *path) { removed(path); return real_unlink(path); }
int rename(const char *from, const char *to) {
    struct stat a, b;
    if (stat(from, &a) || stat(to, &b) || a.st_ino != b.st_ino) removed(to);
    return real_rename(from, to);
}
