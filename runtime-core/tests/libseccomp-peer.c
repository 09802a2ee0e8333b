/* Compiles profiles with libseccomp, for the test `plan::seccomp::tests::agrees_with_libseccomp`.
 *
 * Reads lines: "new ACTION", "only ARCH" (instead of the native one), "arch ARCH", "rule ACTION NAME COUNT" with COUNT
 * times "INDEX OP VALUE SECOND" (numbers in decimal, as in seccomp.h), "export", "knows NAME". Answers "export" with a
 * line "INSTRUCTIONS" and the program as seccomp_export_bpf writes it, or with "refused"; "knows" with "yes" or "no".
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	scmp_filter_ctx filter = NULL;
	int refused = 0;
	char word[32];

	while (scanf("%31s", word) == 1) {
		uint32_t action, arch;
		if (!strcmp(word, "new") && scanf("%" SCNu32, &action) == 1) {
			if (filter)
				seccomp_release(filter);
			filter = seccomp_init(action);
			refused = filter == NULL;
		} else if (!strcmp(word, "only") && scanf("%" SCNu32, &arch) == 1) {
			if (arch != seccomp_arch_native())
				refused |= seccomp_arch_remove(filter, SCMP_ARCH_NATIVE) != 0 ||
					   seccomp_arch_add(filter, arch) != 0;
		} else if (!strcmp(word, "arch") && scanf("%" SCNu32, &arch) == 1) {
			if (seccomp_arch_exist(filter, arch) != 0)
				refused |= seccomp_arch_add(filter, arch) != 0;
		} else if (!strcmp(word, "rule")) {
			char name[128];
			unsigned count, i;
			struct scmp_arg_cmp args[6];
			if (scanf("%" SCNu32 " %127s %u", &action, name, &count) != 3 || count > 6)
				return 1;
			for (i = 0; i < count; i++) {
				unsigned index, op;
				if (scanf("%u %u %" SCNu64 " %" SCNu64, &index, &op, &args[i].datum_a,
					  &args[i].datum_b) != 4)
					return 1;
				args[i].arg = index;
				args[i].op = op;
			}
			int number = seccomp_syscall_resolve_name(name);
			if (number != __NR_SCMP_ERROR)
				refused |= seccomp_rule_add_array(filter, action, number, count, args) != 0;
		} else if (!strcmp(word, "knows")) {
			char name[128];
			if (scanf("%127s", name) != 1)
				return 1;
			puts(seccomp_syscall_resolve_name(name) == __NR_SCMP_ERROR ? "no" : "yes");
			fflush(stdout);
		} else if (!strcmp(word, "export")) {
			int file = memfd_create("program", 0);
			char buffer[65536];
			ssize_t size = 0;
			if (refused || seccomp_export_bpf(filter, file) != 0) {
				puts("refused");
			} else {
				size = pread(file, buffer, sizeof buffer, 0);
				printf("%zd\n", size / 8);
				fwrite(buffer, 1, size, stdout);
			}
			fflush(stdout);
			close(file);
		} else {
			return 1;
		}
	}
	return 0;
}
