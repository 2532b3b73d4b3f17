import { TokenError } from '../../src/shared/errors.js'

/**
 * Throws unless `condition` holds.
 *
 * @param name The option or parameter that is wrong; every build says it
 * @param words What it has to be, or what to do; the development build says it too
 * @throws TokenError `invalid_configuration`
 */
export function must(condition: unknown, name: string, words: string): asserts condition {
  if (condition) return
  throw new TokenError('invalid_configuration', `createTokenWorker: ${name} ${words}`)
}
