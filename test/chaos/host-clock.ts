// One clock for all processes of the machine: monotonic milliseconds since boot.

export function hostMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
