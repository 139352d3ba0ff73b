// Fuzzes every parser in this process.
//   node test/fuzz/main.ts [--inputs N] [--seed S] [--only TARGET]     the last line is one JSON object
// A crash prints the input. Exit: 0 sound, 7 not.

import { parseArgs } from 'node:util'
import { Random } from '../sim/random.ts'
import { mutate } from './mutate.ts'
import { isTyped, targets, type Target } from './targets.ts'

const MAX_SHOWN = 5
/** Of what the program holds. */
const MAX_GROWTH_BYTES = 32 * 1024 * 1024
/** Of the process: it gets back what it gives up late, and not all of it. */
const MAX_RESIDENT_GROWTH_BYTES = 256 * 1024 * 1024
/** Processor time for one input: a longer stall of the event loop would delay other requests noticeably. */
const MAX_STEP_MS = 100
/** Reading the processor time takes longer than most inputs: inputs share a reading for as long as this. */
const READING_MS = 1

const STACK_FRAMES = 20

const { values } = parseArgs({
  options: { inputs: { type: 'string' }, seed: { type: 'string' }, only: { type: 'string' } }
})
const inputs = Number(values.inputs ?? '100000')
const seed = Number(values.seed ?? '1')

const all = (await targets()).filter(({ name }) => values.only === undefined || name === values.only)
const weights = all.reduce((sum, { weight }) => sum + weight, 0)
const startedAt = performance.now()
const figures = { inputs: 0, accepted: 0, refused: 0, crashes: 0, longestMs: 0, longestTarget: '' }
const byTarget: Record<string, { inputs: number; accepted: number }> = {}
let rejections = 0
process.on('unhandledRejection', err => {
  rejections += 1
  console.log('unhandled rejection', err)
})

// Most inputs are refused, and a stack trace takes longer than the rest of a refusal.
Error.stackTraceLimit = 0
// The first round fills caches and compiles code; growth is measured after it.
for (const target of all) await fuzz(target, Math.ceil((inputs * target.weight) / weights / 10))
const before = await memory()
for (const target of all) await fuzz(target, Math.ceil((inputs * target.weight) / weights))
const after = await memory()
const grownBytes = Math.max(0, after.held - before.held)
const grownResidentBytes = Math.max(0, after.resident - before.resident)

const { crashes, longestMs } = figures
const isSmall = grownBytes <= MAX_GROWTH_BYTES && grownResidentBytes <= MAX_RESIDENT_GROWTH_BYTES
const sound = crashes === 0 && rejections === 0 && isSmall && longestMs <= MAX_STEP_MS
const seconds = (performance.now() - startedAt) / 1_000
console.log(
  `${figures.inputs} inputs, ${crashes} crashes, ${rejections} unhandled rejections in ${seconds.toFixed(0)} s`
)
console.log(JSON.stringify({ ...figures, rejections, grownBytes, grownResidentBytes, seconds, seed, byTarget }))
process.exitCode = sound ? 0 : 7

async function fuzz(target: Target, count: number): Promise<void> {
  const random = new Random(seed)
  let reading = { atMs: performance.now(), cpu: process.cpuUsage() }
  const tally = (byTarget[target.name] ??= { inputs: 0, accepted: 0 })
  for (let n = 0; n < count; n++) {
    const input = mutate(random, target.corpus)
    const given = Buffer.from(input)
    try {
      const answer = target.run(input)
      if (answer instanceof Promise) await answer
      figures.accepted += 1
      tally.accepted += 1
    } catch (err) {
      if (isTyped(err)) figures.refused += 1
      else await crashed(target, given, err)
    }
    if (performance.now() - reading.atMs >= READING_MS) {
      const { user, system } = process.cpuUsage(reading.cpu)
      const ms = (user + system) / 1_000
      if (ms > figures.longestMs) Object.assign(figures, { longestMs: ms, longestTarget: target.name })
      reading = { atMs: performance.now(), cpu: process.cpuUsage() }
    }
    figures.inputs += 1
    tally.inputs += 1
  }
}

async function crashed(target: Target, input: Buffer, err: unknown): Promise<void> {
  figures.crashes += 1
  if (figures.crashes > MAX_SHOWN) return
  console.log(`${target.name}: ${await stackOf(target, input, err)}`)
  console.log(`  input (base64): ${input.toString('base64')}`)
}

/** Runs the target again, this time with stack traces. */
async function stackOf(target: Target, input: Buffer, err: unknown): Promise<string> {
  Error.stackTraceLimit = STACK_FRAMES
  try {
    await target.run(Buffer.from(input))
  } catch (again) {
    if (again instanceof Error && again.stack !== undefined) return again.stack
  } finally {
    Error.stackTraceLimit = 0
  }
  return String(err)
}

type Memory = { readonly held: number; readonly resident: number }

/** After a collection, the least of some readings: a busy machine collects by and by. */
async function memory(): Promise<Memory> {
  const readings: Memory[] = []
  for (let i = 0; i < 10; i++) {
    globalThis.gc?.()
    await new Promise(resolve => setTimeout(resolve, 50))
    const { heapUsed, external, rss } = process.memoryUsage()
    readings.push({ held: heapUsed + external, resident: rss })
  }
  return {
    held: Math.min(...readings.map(({ held }) => held)),
    resident: Math.min(...readings.map(({ resident }) => resident))
  }
}
