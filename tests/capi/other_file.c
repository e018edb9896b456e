/* The second file of a program: it shares what the first one found. */
#include "coldpress.h"

int other_file_version(void);
void *other_file_table(void);

int other_file_version(void)
{
    return coldpress_version();
}

void *other_file_table(void)
{
    return &coldpress_detail_table_v1;
}
