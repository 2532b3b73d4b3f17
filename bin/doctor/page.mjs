// The policy of the app's page: what it has to allow, and what it had better not.

import {
  allows,
  directiveFor,
  isNone,
  metaPolicies,
  parsePolicies,
} from './content-security-policy.mjs'

/**
 * @typedef {import('./web.mjs').Answer} Answer
 * @typedef {import('./report.mjs').Report} Report
 * @typedef {import('./content-security-policy.mjs').Policy} Policy
 *
 * @typedef {object} Needs
 * @property {string | undefined} worker URL of the script
 * @property {string} silent URL of the silent login's page
 * @property {string | undefined} authorization The authorization endpoint
 * @property {string | undefined} token The token endpoint
 * @property {string[]} apis
 */

const POLICY_NAME = 'tokenward'

/** @param {Report} report @param {Answer} home @param {Needs} needs */
export const checkPage = (report, home, needs) => {
  const enforced = [
    ...parsePolicies(home.headers.get('content-security-policy')),
    ...metaPolicies(home.text),
  ]
  const reported = parsePolicies(home.headers.get('content-security-policy-report-only'))
  if (enforced.length === 0) {
    report.warn(
      'page.csp',
      reported.length > 0
        ? 'Its Content-Security-Policy is only reported, not enforced.'
        : 'It has no Content-Security-Policy.',
      'What keeps a foreign script off the page helps most: one that runs there can use the ' +
        "session, and with worker-src missing it can put a worker of its own into this one's place.",
      reported.length > 0
        ? 'Once the reports are quiet, send it as Content-Security-Policy. What follows looks at it as if.'
        : 'docs/security.md has one to start from, “Headers of your app”.',
    )
    if (reported.length === 0) return
  } else report.pass('page.csp', 'It has a Content-Security-Policy.')

  const policies = enforced.length > 0 ? enforced : reported
  // What is not enforced breaks nothing.
  const broken = enforced.length > 0 ? 'failure' : 'warning'
  checkWorkerSource(report, policies, home, needs, broken)
  checkFrames(report, policies, home, needs, broken)
  checkConnections(report, policies, home, needs, broken)
  checkTrustedTypes(report, policies, broken)
  checkRest(report, policies, home)
}

/**
 * @param {Report} report @param {Policy[]} policies @param {Answer} home @param {Needs} needs
 * @param {'failure' | 'warning'} broken
 */
const checkWorkerSource = (report, policies, home, { worker }, broken) => {
  if (!worker) return
  if (!allows(policies, 'worker-src', worker, home.url)) {
    return report.add(
      broken,
      'page.worker-src',
      `worker-src does not allow ${worker}.`,
      'The browser refuses to register the worker.',
      `Add worker-src ${worker}`,
    )
  }
  const others = ['tokenward-doctor.js', 'tokenward/tokenward-doctor.js'].map((path) => {
    return new URL(path, worker).href
  })
  const isOpen = others.some((url) => allows(policies, 'worker-src', url, home.url))
  const named = policies.some((policy) => directiveFor(policy, 'worker-src')?.name === 'worker-src')
  if (isOpen || !named) {
    return report.warn(
      'page.worker-src',
      named ? 'worker-src allows more than the worker.' : 'There is no worker-src.',
      'A script on the page can make any file that it covers the worker of a narrower scope, such ' +
        'as that of the callback.',
      `Name the one file: worker-src ${worker}`,
    )
  }
  report.pass('page.worker-src', 'worker-src names the worker.')
}

/**
 * @param {Report} report @param {Policy[]} policies @param {Answer} home @param {Needs} needs
 * @param {'failure' | 'warning'} broken
 */
const checkFrames = (report, policies, home, { silent, authorization }, broken) => {
  const lacking = [silent, ...(authorization ? [authorization] : [])]
    .filter((url) => !allows(policies, 'frame-src', url, home.url))
    .map((url) => (url === silent ? "'self'" : new URL(url).origin))
  if (lacking.length === 0) {
    return report.pass('page.frame-src', 'frame-src allows the frame of the silent login.')
  }
  report.add(
    broken,
    'page.frame-src',
    `frame-src lacks ${lacking.join(' and ')}.`,
    'Silent login is a frame that starts on the site and goes to the authorization server.',
    `Have frame-src 'self' ${authorization ? new URL(authorization).origin : 'and the server'}`,
  )
}

/**
 * @param {Report} report @param {Policy[]} policies @param {Answer} home @param {Needs} needs
 * @param {'failure' | 'warning'} broken
 */
const checkConnections = (report, policies, home, { apis, token }, broken) => {
  const lacking = apis.filter((url) => !allows(policies, 'connect-src', url, home.url))
  if (lacking.length > 0) {
    report.add(
      broken,
      'page.connect-src',
      `connect-src does not allow ${lacking.join(', ')}.`,
      "A request of the page has to pass the page's policy before the worker sees it.",
      `Add ${[...new Set(lacking.map((url) => new URL(url).origin))].join(' ')} to connect-src.`,
    )
  }
  const isApi = token && apis.some((url) => new URL(url).origin === new URL(token).origin)
  if (token && !isApi && allows(policies, 'connect-src', token, home.url)) {
    return report.warn(
      'page.connect-src',
      `connect-src lets the page reach the token endpoint, ${token}.`,
      'Only the worker talks to the authorization server; a script on the page could redeem codes ' +
        'of its own there.',
      `Leave ${new URL(token).origin} out of the page's connect-src.`,
    )
  }
  if (lacking.length === 0) {
    report.pass('page.connect-src', 'connect-src has the APIs, and not the token endpoint.')
  }
}

/** @param {Report} report @param {Policy[]} policies @param {'failure' | 'warning'} broken */
const checkTrustedTypes = (report, policies, broken) => {
  const required = policies.some((policy) =>
    policy.get('require-trusted-types-for')?.includes("'script'"),
  )
  if (!required) {
    return report.note(
      'page.trusted-types',
      "There is no require-trusted-types-for 'script'.",
      'Trusted Types close most of the ways in which a text becomes a script.',
    )
  }
  const isAllowed = policies.every((policy) => {
    const names = policy.get('trusted-types')
    return !names || names.includes('*') || names.includes(POLICY_NAME)
  })
  if (isAllowed) return report.pass('page.trusted-types', 'Trusted Types, with our policy allowed.')
  report.add(
    broken,
    'page.trusted-types',
    `trusted-types does not list ${POLICY_NAME}.`,
    'Registering a worker takes a trusted URL, which tokenward makes in a policy of that name. If ' +
      'your app registers the worker itself, it is not needed: --accept page.trusted-types.',
    `Add ${POLICY_NAME} to trusted-types.`,
  )
}

/** @param {Report} report @param {Policy[]} policies @param {Answer} home */
const checkRest = (report, policies, home) => {
  const headerPolicies = parsePolicies(
    home.headers.get('content-security-policy') ??
      home.headers.get('content-security-policy-report-only'),
  )
  const framed =
    home.headers.has('x-frame-options') ||
    headerPolicies.some((policy) => policy.has('frame-ancestors'))
  const wishes = /** @type {[boolean, string][]} */ ([
    [
      policies.some((policy) => isNone(directiveFor(policy, 'object-src')?.values)),
      "object-src 'none'",
    ],
    [policies.some((policy) => policy.has('base-uri')), "base-uri 'none'"],
    [framed, "frame-ancestors 'none' (as a header)"],
    [policies.some(hasStrictScripts), "script-src without 'unsafe-inline' and 'unsafe-eval'"],
  ])
  const missing = wishes.filter(([isThere]) => !isThere).map(([, what]) => what)
  if (missing.length === 0) {
    return report.pass('page.strict', 'Scripts, base URL, objects and framing are restricted.')
  }
  report.warn(
    'page.strict',
    `It lacks ${missing.join(', ')}.`,
    'Each closes a way for a foreign script or site to act as the signed-in user.',
    'Add what the app can do with.',
  )
}

/** Nonces and hashes switch 'unsafe-inline' off. @param {Policy} policy */
const hasStrictScripts = (policy) => {
  const values = directiveFor(policy, 'script-src')?.values
  if (!values) return false
  const isListed = values.some((value) => /^'(?:nonce-|sha\d+-|strict-dynamic)/i.test(value))
  const inline = values.includes("'unsafe-inline'") && !isListed
  return !inline && !values.includes("'unsafe-eval'") && !(values.includes('*') && !isListed)
}
