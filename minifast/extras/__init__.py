"""What comes after training: predict, explain, check the data. Its modules still lie in minifast/.
"""
