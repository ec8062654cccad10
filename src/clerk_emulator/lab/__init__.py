"""What a tester puts in the way and looks at: faults and the journal. Pure, beside the state."""
