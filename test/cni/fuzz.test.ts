// The plugin under the address and undefined-behaviour sanitizers: its parsers with mutated input, and the whole program.

import { join, resolve } from 'node:path'
import t from 'tap'
import { run } from '#platform/process.ts'
import { scratch } from '../api/scratch.ts'
import { TEST_TIMEOUT_MS } from '../lab/wait.ts'
import { callPlugin } from './plugin.ts'

const root = resolve(import.meta.dirname, '../..')
const SANITIZE = [
  '-std=gnu17',
  '-g',
  '-O1',
  '-Wall',
  '-Wextra',
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover'
]

t.test('parsing mutated configurations and answers stays within bounds', { timeout: TEST_TIMEOUT_MS }, async t => {
  const program = join(scratch(t), 'fuzz')
  const built = await run('gcc', [...SANITIZE, '-D_GNU_SOURCE', '-o', program, join(root, 'test/cni/fuzz.c')], {
    timeoutMs: TEST_TIMEOUT_MS
  })
  t.equal(built.exitCode, 0, built.stderr)
  for (const seed of ['1', '2', '3']) {
    const { exitCode, stdout, stderr } = await run(program, ['100000', seed], { timeoutMs: TEST_TIMEOUT_MS })
    t.equal(exitCode, 0, `seed ${seed}: ${stderr}`)
    const { objects, answers } = JSON.parse(stdout) as { objects: number; answers: number }
    t.ok(objects > 1_000 && answers > 1_000, `seed ${seed}: ${stdout.trim()} are whole`)
  }
})

t.test('the whole program stays within bounds with hostile input', { timeout: TEST_TIMEOUT_MS }, async t => {
  const dir = scratch(t)
  const program = join(dir, 'plugin')
  const built = await run('gcc', [...SANITIZE, '-D_GNU_SOURCE', '-o', program, join(root, 'cni/vxmesh-cni.c')], {
    timeoutMs: TEST_TIMEOUT_MS
  })
  t.equal(built.exitCode, 0, built.stderr)
  const socket = join(dir, 'none.sock')
  const good = JSON.stringify({ cniVersion: '1.1.0', name: 'n', socket })
  for (const [input, env, code] of [
    [good, {}, 11],
    ['', {}, 6],
    ['{', {}, 6],
    ['{"socket":"', {}, 6],
    ['{"socket":"\\', {}, 6],
    [`{"socket":"/${'s'.repeat(106)}"}`, {}, 11],
    [`{"socket":"/${'s'.repeat(107)}"}`, {}, 7],
    ['{"socket":"/\\u00"}', {}, 7],
    ['{"socket":"/\\u0000"}', {}, 7],
    [`{"cniVersion":"${'9'.repeat(33)}","socket":"${socket}"}`, {}, 11],
    ['['.repeat(1024 * 1024), {}, 6],
    [`${good}${' '.repeat(1024 * 1024 - good.length)}`, {}, 11],
    [`${good}${' '.repeat(1024 * 1024 - good.length + 1)}`, {}, 6],
    [good, { CNI_ARGS: 'x'.repeat(65_000) }, 11],
    [good, { CNI_ARGS: 'x'.repeat(65_536) }, 4],
    [good, { CNI_ARGS: 'x'.repeat(100_000), CNI_IFNAME: 'y'.repeat(100_000) }, 4]
  ] as const) {
    const { exitCode, json, stderr } = await callPlugin('ADD', { input, env, program })
    t.same([exitCode, json?.['code'], stderr], [1, code, ''], `${input.slice(0, 40)} ${Object.keys(env).join()}`)
  }
})
