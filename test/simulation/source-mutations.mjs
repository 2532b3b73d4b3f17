// The worker as a developer breaks it: one line of its source differs. Each mutation is noticed by
// the simulation, or by the unit test that is named with it; docs/reliability.md lists them all.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))

/**
 * @typedef {object} SourceMutation
 * @property {string} file From the root of the repository
 * @property {string} from Is there exactly once
 * @property {string} to
 * @property {{ file: string, title: string }} [test] The unit test that notices it
 */

/** @type {Record<string, SourceMutation>} */
export const sourceMutations = {
  'the intent outlives the answer': {
    file: 'sw/token/refresh.ts',
    from: 'withTokens({ ...current, refreshSentAt: undefined',
    to: 'withTokens({ ...current',
  },
  'the intent moves with each send': {
    file: 'sw/token/refresh.ts',
    from: 'refreshSentAt: current.refreshSentAt ?? now(),',
    to: 'refreshSentAt: now(),',
  },
  'a check without the lock': {
    file: 'sw/page-calls.ts',
    from: 'renewal.exclusively(async () => {',
    to: '(async (work) => await work())(async () => {',
  },
  'frames count on after an unknown outcome': {
    file: 'sw/token/refresh.ts',
    from: 'silentLoginFailed: undefined',
    to: '',
    test: {
      file: 'test/token/refresh-record.test.ts',
      title: 'are forgotten once a refresh gets no answer: it was the server',
    },
  },
  'a late silent answer counts': {
    file: 'sw/sign-in/signed-in-record.ts',
    from: 'if (!active && (current?.generation ?? Infinity) !== generation) return true',
    to: '',
    test: {
      file: 'test/sign-in/late-answer.test.ts',
      title: 'a hidden frame signs nobody in again if a session came and ended meanwhile',
    },
  },
  'tokens are used before they are stored': {
    file: 'sw/token/refresh.ts',
    from: 'const stored = await changeSame(record, (current) =>',
    to: `const stored = withTokens({ ...record, refreshSentAt: undefined }, tokens)
    void changeSame(record, (current) =>`,
  },
  'an answer is for whatever token is there': {
    file: 'sw/token/refresh.ts',
    from: 'current.refreshToken === sent.refreshToken ? next(current) : undefined,',
    to: 'next(current),',
    test: {
      file: 'test/token/refresh-record.test.ts',
      title: 'the refusal of a refresh token leaves one alone that has come meanwhile',
    },
  },
  'a refresh that is too late is not revoked': {
    file: 'sw/token/refresh.ts',
    from: 'if (!isSame && tokens.refreshToken !== undefined) await server.revoke(tokens.refreshToken)',
    to: '',
    test: {
      file: 'test/token/refresh.test.ts',
      title: 'by a sign-out is discarded, and its new token revoked',
    },
  },
  'every silent login counts as another user': {
    file: 'sw/sign-in/signed-in-record.ts',
    from: 'if (silent && active && active.subject !== signIn.subject) {',
    to: 'if (silent && active) {',
  },
  'a failed refresh makes no pause': {
    file: 'sw/token/refresh.ts',
    from: 'const { pause } = session',
    to: 'const pause = (record) => record',
  },
  'a newer token is overlooked': {
    file: 'sw/token/renewal.ts',
    from: 'const isOther = record.accessToken !== undefined && record.accessToken !== spoiled',
    to: 'const isOther = false',
  },
  'pauses are not kept': {
    file: 'sw/token/renewal.ts',
    from: 'return notNow()',
    to: 'void 0',
  },
  'the grace of the server is forgotten': {
    file: 'sw/token/renewal.ts',
    from: 'return ageOf(refreshSentAt, now()) >= rotationGrace',
    to: 'return true',
    test: {
      file: 'test/token/renewal-table.test.ts',
      title: 'inside rotationGrace; the frame signs in',
    },
  },
  'a frame comes before every refresh': {
    file: 'sw/token/renewal.ts',
    from: 'if (isRisky(record) && record.silentLoginWorks && online()) {',
    to: 'if (record.silentLoginWorks && online()) {',
  },
  'one frame is enough for a lost answer': {
    file: 'sw/token/renewal.ts',
    from: 'if (isRisky(record) && record.silentLoginWorks && online()) {',
    to: 'if (isRisky(record) && !record.silentLoginFailed && record.silentLoginWorks && online()) {',
    test: {
      file: 'test/token/access-token.test.ts',
      title: 'is silent login first then also after one that has brought nothing',
    },
  },
  'a change reaches any session': {
    file: 'sw/session/stored-session.ts',
    from: 'activeOf(record)?.session === session',
    to: 'activeOf(record) !== undefined',
    test: {
      file: 'test/session/session.test.ts',
      title: 'of one session leaves another one alone',
    },
  },
  'changes are not announced': {
    file: 'sw/session/stored-session.ts',
    from: 'if (wanted) others.post(',
    to: 'if (false) others.post(',
  },
  'memory is trusted for ever': {
    file: 'sw/session/stored-session.ts',
    from: 'const trustMemoryFor = 1_000',
    to: 'const trustMemoryFor = Infinity',
  },
  'a sign-in that is too late is not revoked': {
    file: 'sw/sign-in/callback.ts',
    from: 'await server.revoke(answer.refreshToken)',
    to: 'void 0',
  },
  'the tokens of the last user live on': {
    file: 'sw/sign-in/callback.ts',
    from: 'if (isOther && previous.refreshToken) await server.revoke(previous.refreshToken)',
    to: '',
  },
  'no page hears that another user is in': {
    file: 'sw/sign-in/callback.ts',
    from: "if (isOther) await session.publishEnd('user_changed')",
    to: '',
  },
  'the outcome of a frame is kept back': {
    file: 'sw/sign-in/transactions.ts',
    from: 'if (report) await store.putOutcome(report, ended)',
    to: '',
  },
  'a code is redeemed each time it comes': {
    file: 'sw/sign-in/transactions.ts',
    from: 'const taken = await store.takeTransaction(key, ({ kind, returnTo }) => {',
    to: `const taken = await store.readTransaction(key)
      void (({ kind, returnTo }) => {`,
    test: {
      file: 'test/sign-in/transactions.test.ts',
      title: 'a state takes the transaction for one of two workers',
    },
  },
  'a ticket is good for ever': {
    file: 'sw/sign-in/transactions.ts',
    from: 'if (now() - found.createdAt > ticketLife) return',
    to: '',
    test: { file: 'test/sign-in/transactions.test.ts', title: 'a ticket works for a minute' },
  },
  'pages call what is not listed': {
    file: 'sw/page-bridge.ts',
    from: '!Object.hasOwn(inputs, name)',
    to: '!(name in inputs)',
    test: { file: 'test/worker/page-bridge.test.ts', title: 'the guard drops' },
  },
  'other origins call the worker': {
    file: 'sw/page-bridge.ts',
    from: "if (event.origin !== new URL(scope()).origin || source?.type !== 'window') return false",
    to: '',
    test: { file: 'test/worker/page-bridge.test.ts', title: 'a message is not a call' },
  },
  'a call that never comes keeps the worker': {
    file: 'sw/page-bridge.ts',
    from: 'withTimeLimit(wait, callLimit, serve)',
    to: 'serve()',
    test: {
      file: 'test/worker/page-bridge.test.ts',
      title: 'that never comes lets the worker go after a minute',
    },
  },
}

/**
 * The source of a file with this mutation in it.
 *
 * @param {string} name
 */
export const mutatedSource = (name) => {
  const { file, from, to } = /** @type {SourceMutation} */ (sourceMutations[name])
  const source = readFileSync(join(root, file), 'utf8')
  if (source.split(from).length !== 2) {
    throw new Error(`Mutation "${name}": ${file} does not have this exactly once: ${from}`)
  }
  return source.replace(from, () => to)
}

/**
 * A plugin for vitest that loads the mutated source instead of the real one.
 *
 * @param {string} name
 */
export const mutate = (name) => {
  const { file } = /** @type {SourceMutation} */ (sourceMutations[name])
  return {
    name: 'mutate',
    /** @param {string} id */
    load: (id) => (id.split('?')[0] === join(root, file) ? mutatedSource(name) : undefined),
  }
}
