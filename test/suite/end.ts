// The end of a program that prints much: a pipe takes it by and by, and what is still to be written must not be lost.

export function end(code: number): void {
  process.stdout.write('', () => process.exit(code))
}
