// What of the findings comes first, and what can wait until the site is online.

/** @typedef {import('./report.mjs').Finding} Finding */

/**
 * What most often keeps people from signing in or requests from their token, the most frequent
 * first. What is not listed keeps its order, after these.
 */
const LIKELIEST = [
  'site.answer',
  'client.redirect-uri',
  'client.public',
  'server.issuer',
  'server.metadata',
  'server.token-endpoint',
  'worker.found',
  'worker.library',
  'worker.imports',
  'worker.scope',
  'server.given',
  'client.given',
  'api.covered',
  'api.preflight',
  'api.answer',
  'worker.csp',
  'page.worker-src',
  'page.connect-src',
  'page.frame-src',
  'page.trusted-types',
  'auth-pages.body',
  'callback.body',
]

/** Problems only: what is well, and notes, have an order of their own. */
const LEVELS = ['failure', 'warning']

/** @param {Finding[]} findings Failures, then warnings, the likeliest cause first */
export const problemsOf = (findings) => {
  const rank = (/** @type {Finding} */ { id, level }) => {
    const place = LIKELIEST.indexOf(id)
    return LEVELS.indexOf(level) * 100 + (place === -1 ? LIKELIEST.length : place)
  }
  return findings.filter(({ level }) => LEVELS.includes(level)).sort((a, b) => rank(a) - rank(b))
}

/** Headers that protect users: nothing works less without them. */
const PROTECTION =
  /^(?:callback\.(?!body$|query$)|auth-pages\.headers$|worker\.(?:nosniff|eval)$|page\.(?:csp|strict)$)/
/** A policy that is too wide protects less; one that is too narrow breaks the app. */
const POLICIES = /^(?:worker\.csp|page\.(?:worker-src|connect-src|frame-src|trusted-types))$/

/** @param {Finding} finding */
const isForProduction = ({ id, level }) =>
  PROTECTION.test(id) || (POLICIES.test(id) && level !== 'failure')

/**
 * On a developer's machine: what matters only once the site is online, as one line.
 *
 * @param {Finding[]} findings @returns {Finding[]}
 */
export const foldProduction = (findings) => {
  const folded = problemsOf(findings).filter(isForProduction)
  if (folded.length === 0) return findings
  const ids = [...new Set(folded.map(({ id }) => id))].join(', ')
  return [
    ...findings.filter((finding) => !folded.includes(finding)),
    {
      id: 'site.production',
      level: 'note',
      found: `Left out, because it only matters once the site is online: ${ids} (--all shows it).`,
      why: '',
      fix: '',
    },
  ]
}
