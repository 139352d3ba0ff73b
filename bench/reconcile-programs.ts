// The part of `bench -- reconcile` for driver bpf.

import { openDatapath } from '#overlay/bpf/open.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { runPart, runPass, type Look } from '#overlay/pass.ts'
import { desired, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import type { Lab } from '../test/lab/lab.ts'
import { median, say, type Figures } from './report.ts'

const PASSES = 15
const ROUNDS = 5
const PORT = 4789

export type ProgramInputs = {
  readonly idle: DesiredInput
  /** Attaches the local endpoints of `idle`. */
  readonly attach: (driver: LinuxDriver) => Promise<void>
  readonly empty: DesiredInput
  /** `empty` with many remote endpoints in one network. */
  readonly full: DesiredInput
  readonly entries: number
}

export async function programRates(
  lab: Lab,
  inputs: ProgramInputs
): Promise<{ ours: Figures; facts: Readonly<Record<string, unknown>> }> {
  const host = lab.host(1)
  const options = { underlay: vxlanUnderlay(host.vtep), hostNetns: host.netns, clock: systemClock }
  const driver = LinuxDriver.openFast({ ...options, programs: openDatapath(host.netns) })
  try {
    await driver.setGuard(PORT)
    const stop = driver.onChange(() => undefined)
    const idlePassMs = await idlePass(driver, inputs)
    stop()
    const { perSecond, ms } = await tableRate(driver, inputs)
    return { ours: { bpfIdlePassMs: idlePassMs, endpointsPerSecond: perSecond }, facts: { tableMs: ms } }
  } finally {
    await driver.close()
  }
}

/** Processor time of a pass of all parts but the routers'. */
async function idlePass(driver: LinuxDriver, { idle, attach }: ProgramInputs): Promise<number> {
  await pass(driver, idle)
  await attach(driver)
  await pass(driver, idle)
  const cpu: number[] = []
  for (let n = 0; n < PASSES; n++) {
    const before = process.cpuUsage()
    const left = await pass(driver, idle)
    const { user, system } = process.cpuUsage(before)
    if (left !== undefined) throw new Error(`an idle pass found ${left}`)
    cpu.push((user + system) / 1_000)
  }
  return median(cpu)
}

/** From the desired state into the tables, observing and planning included. */
async function tableRate(
  driver: LinuxDriver,
  { empty, full, entries }: ProgramInputs
): Promise<{ readonly perSecond: number; readonly ms: number }> {
  const part = driver.parts.find(({ name }) => name === 'programs')
  if (part === undefined) throw new Error('no programs')
  const took: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    await pass(driver, empty)
    const since = performance.now()
    const { failures } = await runPart(part, lookAt(full))
    took.push(performance.now() - since)
    if (failures[0] !== undefined) throw failures[0].error
    say(`reconcile: ${entries} endpoints in the tables after ${Math.round(took.at(-1) ?? 0)} ms`)
  }
  await pass(driver, { ...empty, networks: [] })
  return { perSecond: (entries / median(took)) * 1_000, ms: median(took) }
}

/** @returns the first op that there was */
async function pass(driver: LinuxDriver, input: DesiredInput): Promise<string | undefined> {
  const parts = driver.parts.filter(({ concern }) => concern !== 'egress')
  const reports = await runPass(parts, lookAt(input))
  const [problem] = reports.flatMap(({ problems }) => problems)
  if (problem !== undefined) throw problem.error
  return reports.flatMap(({ done }) => done)[0]?.text()
}

function lookAt(input: DesiredInput): Look {
  return {
    scope: null,
    trust: false,
    mayRemove: true,
    desired: {
      host: () => desired(input),
      gateways: () => {
        throw new Error('routers are left out')
      }
    }
  }
}
