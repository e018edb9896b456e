/* What the parts of the victim share: see victim.c. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ptr_t;
typedef int result_t;

/* Large enough for a block of its own: what leaves takes no neighbour along. */
enum { WORDS = 256 << 10, BYTES = WORDS * 4, NOT_HERE = 9999 };

/* A function of the driver or of the library by its exported name, counted if it is the one under test. */
void *find(const char *name);
#define CALL(name, types, ...) (((result_t(*) types)find(name))(__VA_ARGS__))
#define MUST(name, types, ...) must(name, CALL(name, types, __VA_ARGS__))
void must(const char *name, result_t result);
void wrong(const char *what);

/* Device memory and what it must hold. */
struct buffer {
    ptr_t at;
    uint32_t want[WORDS];
};
extern struct buffer a, b;
extern uint32_t host[WORDS];
extern void *context, *stream, *module, *library, *fill;
extern const void *image;
/* The call has ended the context, and all memory with it. */
extern int context_ended;

/* Between these two only the call under test. */
void begin(void);
void end(void);
/* What the call returned, between them. */
#define TESTED(types, ...) ({ begin(); result_t r_ = CALL(hook, types, __VA_ARGS__); end(); r_; })
extern const char *hook;

int is(const char *name);
int starts(const char *prefix);
int has(const char *part);

/* Each runs the call under test if it is one of its own. */
result_t memory(void);
result_t other(void);
result_t interface(void);
