/**
 * Shares work: a call that comes while it is under way gets the same promise and starts nothing.
 */
export const singleFlight = <Input extends unknown[], Result>(
  work: (...input: Input) => Promise<Result>,
): ((...input: Input) => Promise<Result>) => {
  let underWay: Promise<Result> | undefined
  return (...input) => {
    underWay ??= work(...input).finally(() => {
      underWay = undefined
    })
    return underWay
  }
}
