// A program under the name of ovs-ofctl(8), found before any other: it keeps flows and the fragment mode in files, logs its
// arguments and its input, and fails with the text in `refusal`, or with that in `refused-change` when it is to change flows.

import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { scratch } from '#test/api/scratch.ts'

type File = 'dump' | 'log' | 'input' | 'refusal' | 'refused-change' | 'frags'

export type OfctlProgram = {
  readonly put: (file: File, text: string) => void
  readonly get: (file: File) => string
  /** The arguments of each call. */
  readonly calls: () => string[]
}

const PROGRAM = `
echo "$*" >>log
case "$*" in *add-flows*) cat >input ;; esac
if [ -s refusal ]; then cat refusal >&2; exit 1; fi
case "$*" in
*dump-flows*) cat dump ;;
*get-frags*) cat frags ;;
*set-frags*) echo nx-match >frags ;;
*add-flows*)
  if [ -s refused-change ]; then cat refused-change >&2; exit 1; fi
  awk -f apply dump input >changed && mv changed dump ;;
esac
`

const APPLY = `
function key(line) { sub(/ actions=.*/, "", line); return line }
FILENAME == "dump" { flows[key($0)] = $0 }
FILENAME == "input" && /^delete_strict / { line = " " substr($0, 15); sub("/-1,", ",", line); delete flows[line] }
FILENAME == "input" && /^add / { line = " " substr($0, 5); flows[key(line)] = line }
END { for (k in flows) print flows[k] }
`

export function ofctlProgram(t: Test): OfctlProgram {
  const dir = scratch(t)
  const program = join(dir, 'ovs-ofctl')
  writeFileSync(program, `#!/bin/sh\ncd ${dir}\n${PROGRAM}`)
  chmodSync(program, 0o755)
  writeFileSync(join(dir, 'apply'), APPLY)
  const files: readonly File[] = ['dump', 'log', 'input', 'refusal', 'refused-change', 'frags']
  for (const file of files) writeFileSync(join(dir, file), '')
  const path = process.env['PATH']
  process.env['PATH'] = `${dir}:${path}`
  t.teardown(() => (process.env['PATH'] = path))
  const get = (file: File): string => readFileSync(join(dir, file), 'utf8')
  return {
    put: (file, text) => writeFileSync(join(dir, file), text),
    get,
    calls: () => get('log').trimEnd().split('\n')
  }
}
